"""A DICOM node: receives CT series from a PACS, and sends back the synthetic PET that rules ask for."""
