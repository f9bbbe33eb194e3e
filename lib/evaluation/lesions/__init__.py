"""Lesions of a synthetic PET against those of the real one: found, missed and fabricated, by connected components."""
