"""Running a sweep: the driver, its Ray session, and what it keeps of its trials."""
