"""Ways to run the same weights: PyTorch as it is, with batch normalisation folded in bfloat16, compiled."""
