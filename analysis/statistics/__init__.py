"""Statistics: what seeds say of a point, of a forecast or bound, and of other points."""
