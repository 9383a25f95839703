"""Self-consuming generative loops with curated data, run as distributed sweeps."""
