"""The panel: one module per section."""
