"""DICOM attributes as text, numbers and times, read tolerantly and written strictly."""
