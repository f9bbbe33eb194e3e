"""Pairs of a CT and a PET in the studies: registered, checked, and uploaded."""
