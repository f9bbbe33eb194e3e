"""DICOM in and out: folders to series, series to volumes in HU, Bq/mL and SUVbw, and back."""
