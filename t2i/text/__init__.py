"""From a prompt to what a network reads: the tokenizer and the TextCond."""
