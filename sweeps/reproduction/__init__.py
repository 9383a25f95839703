"""The paper's figures, drawn from sweeps of the presets, and what our seeds say of their claims."""
