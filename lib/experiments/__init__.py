"""The paper's study of 1 to 6 stages, and ablations of a recipe."""
