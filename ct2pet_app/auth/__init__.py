"""Authentication: accounts from a users file, or from MONAI Label's own Keycloak."""
