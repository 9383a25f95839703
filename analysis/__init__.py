"""Analysis: reads MLflow alone; tidy curves, statistics over seeds, figures, the report."""
