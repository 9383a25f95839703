"""Learning procedures: what turns a training set into a model that can be sampled."""
