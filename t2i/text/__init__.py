"""From a prompt to tensors.

encoder.py      the protocol of text encoders, and CLIP and the language model as such; t5.py: a T5
cond.py         `TextCond`, what they all return
tokenizer.py    byte-level BPE; words.py: the words that a model knows
cache.py        encoded captions on disk, for training; memory.py: encoded prompts in memory
"""
