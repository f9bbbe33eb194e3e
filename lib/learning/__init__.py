"""Train a cascade on prepared arrays: recipe, data set, loss, training, checkpoint, model card."""
