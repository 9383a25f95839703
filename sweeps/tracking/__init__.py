"""MLflow: the layout of a sweep there, how the record is delivered, and its pages served."""
