"""The MONAI Label adapter: translates requests into calls of the engine, and its results into responses."""
