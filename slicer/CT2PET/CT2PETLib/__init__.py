"""What the CT2PET module of 3D Slicer is made of. Python 3.9; needs nothing beyond what Slicer ships."""
