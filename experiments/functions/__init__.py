"""Two Python functions of anybody's repository, or one at two revisions, in one run, with a verdict."""
