"""Configurations: of a point, of the sweep that holds it, of its search; reading and explaining."""
