"""Metrics of a training run: files, TensorBoard and MLflow."""
