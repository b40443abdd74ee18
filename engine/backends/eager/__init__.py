"""The step run eagerly by PyTorch."""
