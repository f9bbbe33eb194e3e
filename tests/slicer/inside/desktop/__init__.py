"""A stand-in for what the desktop program adds to the core libraries: Qt widgets, parameter nodes, layouts.

PySide6 renders the real CT2PET.ui; MRML, its nodes and the compositing of slices are Slicer's own. What differs from
the desktop program, above all PythonQt, is named in docs/slicer/tested.md.
"""
