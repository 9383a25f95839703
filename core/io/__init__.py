"""Files: where they lie, how they are written whole, locked, fingerprinted, and users' code."""
