# Packaging is Slicer's own.
