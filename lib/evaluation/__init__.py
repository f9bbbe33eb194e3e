"""How good a model is, beside predictors that know almost nothing."""
