"""Where models live: bundles (read, write, verify) and the registry that turns a name into a place."""
