"""Base rewards r(x), what pickers prefer: a file for each kind, its configuration beside it."""
