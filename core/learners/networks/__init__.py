"""Networks as functions of parameters with a leading axis of rows."""
