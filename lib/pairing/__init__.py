"""From studies to training arrays: CT/PET pairs, slice pairs, the split, prepared arrays."""
