"""A folder of DICOM files to studies and series, each usable or with the reason why not."""
