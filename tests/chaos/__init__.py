"""Any process of a sweep killed or stopped, at random moments, again and again: `make chaos`."""
