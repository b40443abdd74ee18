"""The walk between two revisions to the commit that made it slower, by comparisons."""
