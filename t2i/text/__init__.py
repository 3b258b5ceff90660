"""From a prompt to tensors: tokenizer, text encoders, and the `TextCond` that they all return."""
