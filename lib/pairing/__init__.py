"""Studies to arrays that are ready to learn from: series pairs, slice pairs, the split, prepared arrays."""
