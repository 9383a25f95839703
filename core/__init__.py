"""Self-consuming loops with curated data: everything that needs only torch."""
