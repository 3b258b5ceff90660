"""A stage joins a network, a noise process and its conditioning. Which stages follow one another is the
manifest's."""
