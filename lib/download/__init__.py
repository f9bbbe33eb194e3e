"""Studies out of nothing (phantoms) and out of the open archives (downloads)."""
