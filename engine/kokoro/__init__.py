"""Kokoro-82M by ONNX Runtime: no solver, no vocoder, no clip; phonemes and one of its own voices in, audio out."""
