"""Telling an address of the user's how a sweep stands: what is told, and how it gets there."""
