"""A stage joins a network, a noise process and its conditioning. The manifest says which stages follow one another."""
