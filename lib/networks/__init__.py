"""The networks: one U-Net, and a cascade of them."""
