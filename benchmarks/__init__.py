"""Benchmarks: what a sweep costs, each against what a user would otherwise run."""
