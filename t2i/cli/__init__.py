"""The command line: results on stdout, progress on stderr, one sentence and an exit code for a failure."""
