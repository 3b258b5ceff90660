"""Measures a bundle for its model card: `python -m t2i.lab.evaluate --model small --sprites DIR --out report.json`.

`program.py` is the command, `workbench.py` what all parts share, `tables.py` the report as Markdown; each other file is
one part, or two.
"""
