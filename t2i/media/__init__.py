"""Picture files: pixels, what a file says about itself, signatures, contact sheets."""
