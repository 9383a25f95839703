"""Pickers: who makes the choices, what each kind of users thinks of a pool, choices of your own."""
