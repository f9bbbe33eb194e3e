"""Download of PET/CT studies from the Imaging Data Commons."""
