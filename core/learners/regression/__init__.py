"""Learners that regress a network on noisy points: how they train, whatever their paths."""
