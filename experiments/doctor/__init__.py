"""Preflight: what is here, what is missing, what that disables, and how to get it."""
