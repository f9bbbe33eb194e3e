"""DICOMweb client of a PACS: query (QIDO-RS), retrieval (WADO-RS) with a cache, and storage (STOW-RS)."""
