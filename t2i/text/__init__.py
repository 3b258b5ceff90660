"""From a prompt to what a network reads: tokenizer, text encoders, and the TextCond that they all return."""
