"""The networks: a U-Net, and a cascade of U-Nets."""
