"""A model that stays loaded, for several runs: `t2i serve`, and the side of `t2i sample` that asks it."""
