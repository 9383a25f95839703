"""Ray: the trainable of one configuration point, and the actors that work for it."""
