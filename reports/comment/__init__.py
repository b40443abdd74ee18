"""The comment on a pull request: rendered, and written once and then edited. Needs nothing but Python."""
