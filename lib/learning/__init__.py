"""Prepared arrays to a trained cascade: recipe, data, loss, training, checkpoint."""
