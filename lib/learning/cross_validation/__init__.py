"""Train on all patients, and judge each of them by a network that was not trained on them."""
