"""The step compiled by torch.compile."""
