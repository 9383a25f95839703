"""Figures: functions that draw on an `ax`, and the files they become."""
