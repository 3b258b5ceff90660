"""Runs below the command line and the library: from checked requests to picture files, without typer or rich."""
