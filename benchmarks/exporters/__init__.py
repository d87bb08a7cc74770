"""Models as real exporters write them, checked against and timed beside ONNX Runtime: see `__main__`."""
