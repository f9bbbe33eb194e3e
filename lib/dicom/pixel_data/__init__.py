"""Pixel data to stored values: compressed or not, padded or not."""
