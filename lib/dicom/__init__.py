"""DICOM input and output: folders to series, series to volumes in HU, Bq/mL and SUVbw, and back."""
