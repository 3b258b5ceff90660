"""Training examples: pictures, captions, masks.

source.py    what a source of examples is, and the built-in world as one
folder.py    the user's pictures as a source; listing.py finds them in a folder or in shards
ahead.py     any source, read ahead by other processes
"""
