"""DICOM attributes as text, numbers and times: tolerant reading, strict writing."""
