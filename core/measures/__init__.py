"""Measures of a pool: sums that shards can add, and distances to the real data."""
