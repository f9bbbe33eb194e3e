"""Models of other programs come in, and ours go out: ONNX files and MONAI bundles."""
