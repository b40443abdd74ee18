"""The step by ONNX Runtime: export, rewriting, quantisation, sessions."""
