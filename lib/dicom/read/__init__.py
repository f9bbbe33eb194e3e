"""Reading of DICOM files as volumes in HU, Bq/mL and SUVbw."""
