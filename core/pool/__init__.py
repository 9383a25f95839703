"""Pools: the samples of one iteration, generated, scored, curated and measured shard by shard."""
