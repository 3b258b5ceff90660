"""Programs beside the product: they measure models, train the judge, fetch sprites. Run as `python -m t2i.lab.NAME`."""
