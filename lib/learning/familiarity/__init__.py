"""Out-of-distribution detection: whether a CT resembles the CTs a model was trained on."""
