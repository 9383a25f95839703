"""Sweeps as jobs of a Ray cluster: what travels there, and the jobs themselves."""
