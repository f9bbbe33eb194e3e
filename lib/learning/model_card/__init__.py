"""The model card: what a model is, what it was trained on, how it performs, and its limits."""
