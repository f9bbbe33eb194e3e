"""HTTP client of a ct2pet server, without dependencies on Slicer or Qt."""
