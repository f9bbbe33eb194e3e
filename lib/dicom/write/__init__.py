"""Writing of synthetic PET volumes as DICOM series."""
