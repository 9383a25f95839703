"""Reading a sweep back from MLflow: its runs, tidy curves, forecasts beside them."""
