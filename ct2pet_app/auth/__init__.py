"""Who may ask the server: accounts of a users file, or of MONAI Label's own Keycloak."""
