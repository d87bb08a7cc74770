"""ONNX files. Only this package imports `onnx`, and nothing else loads this package before it is needed."""
