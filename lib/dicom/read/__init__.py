"""DICOM files to volumes in HU, Bq/mL and SUVbw."""
