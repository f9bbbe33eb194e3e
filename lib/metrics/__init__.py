"""How good a synthetic PET is: images, uptake, and the trivial predictors it must beat."""
