"""Students: a model that does the work of its teacher with less, taught by the teacher alone."""
