"""Real data: a file for each kind of dataset, its configuration beside its code."""
