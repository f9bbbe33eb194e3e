"""The HTTP client of a ct2pet server. Imports neither Slicer nor Qt."""
