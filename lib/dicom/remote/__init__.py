"""A PACS that speaks DICOMweb: what it holds (QIDO-RS), its files (WADO-RS) kept in a cache, and storing (STOW-RS)."""
