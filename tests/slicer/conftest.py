"""Tests of the 3D Slicer extension. Those in inside/ run in another environment; test_inside.py starts them."""

collect_ignore = ["inside"]
