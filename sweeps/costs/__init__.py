"""What sweeps cost: on record for each point, estimated before a run, and held to a budget."""
