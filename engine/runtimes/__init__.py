"""torch.compile and ONNX Runtime as such, for steps and vocoders alike."""
