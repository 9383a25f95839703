"""Searches: which points a sweep has, what they are judged by, and when one stops early."""
