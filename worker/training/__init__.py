"""Training: an ONNX graph as a torch module. The only room that imports torch."""
