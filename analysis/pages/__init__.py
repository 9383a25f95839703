"""Pages and tables for readers: the report, LaTeX."""
