"""Pixel data to stored values, with decompression and padding."""
