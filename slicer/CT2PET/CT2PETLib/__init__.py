"""Implementation of the CT2PET module of 3D Slicer. Python 3.9, without packages that Slicer does not ship."""
