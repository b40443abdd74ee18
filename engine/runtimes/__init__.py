"""torch.compile, ONNX Runtime and CUDA graphs as such, for steps and vocoders alike."""
