"""Checkpoints that are not ours, drawn with the library diffusers. It is imported when such a model is loaded."""
