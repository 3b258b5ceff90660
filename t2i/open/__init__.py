"""Checkpoints that are not ours, drawn with the library diffusers. It is imported when such a model is loaded.

engine.py       a pipeline of diffusers as a `t2i.engine.Engine`
loading.py      from a checked folder to a pipeline; adapters.py: LoRAs; machine.py: what saves memory or time
stage_pipelines.py   the pipelines of a cascade; order.py: what one call of them draws
schedulers.py   our samplers by diffusers' names; prompt_length.py: what of a prompt is not read; pictures.py
table.py        writes the tables of docs/open-checkpoints.md
"""
