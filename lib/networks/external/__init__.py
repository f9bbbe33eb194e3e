"""Networks of other programs, imported as ONNX."""
