"""Synthetic machines, recorded traces and rival rules, on which verdicts are tried."""
