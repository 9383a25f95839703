"""The command line, `luceloop`."""
