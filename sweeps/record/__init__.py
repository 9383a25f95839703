"""The record of a sweep: what happened, where it lies, and its copy on shared storage."""
