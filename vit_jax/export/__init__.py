"""A model as a file that other programs run: StableHLO, ONNX, SavedModel, or weights alone."""
