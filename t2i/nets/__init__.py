"""The networks: plain modules, tensors in and tensors out, each built from a frozen config."""
