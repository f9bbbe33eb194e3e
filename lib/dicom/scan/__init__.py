"""Scanning of folders of DICOM files for studies and usable series."""
