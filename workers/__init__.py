"""Ray: the trainable of one configuration point, and the actors that sample for it."""
