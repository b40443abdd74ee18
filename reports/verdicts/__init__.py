"""Verdicts for people and machines: three rules fill one sheet, one renderer makes its forms; the comment, the page."""
