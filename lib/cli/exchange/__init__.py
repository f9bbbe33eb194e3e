"""Commands that take in models of other programs, and write ours for them."""
