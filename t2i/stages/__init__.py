"""A stage joins a network, a noise process and its conditioning. The manifest says which stages follow one another.

designs.py      the networks that a stage can have
loading.py      from a bundle's files to stages; personal.py: with a personal model's changes
stage.py        what all stages of diffusion share; prior.py, base.py, upsampler.py: how each is sampled
dalle.py        tokens in the place of diffusion; gan.py: a generator
"""
