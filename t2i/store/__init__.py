"""Bundles, the folders that hold models: read, write, verify; and the registry, which finds a model by its name."""
