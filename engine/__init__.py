"""Engine variants of F5-TTS behind one contract. Imports no torch until an engine is built."""
