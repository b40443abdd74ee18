"""The clip that is cloned: read from a file, prepared as upstream prepares it, brought to the model's rate."""
