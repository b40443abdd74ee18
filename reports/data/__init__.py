"""A RUN or SWEEP folder as rows."""
