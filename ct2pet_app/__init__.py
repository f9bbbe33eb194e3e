"""The MONAI Label adapter: translates its requests into calls of the engine, and the engine's answers back."""
