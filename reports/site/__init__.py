"""The documentation as a site: the results page, made from what is published, and the tree that MkDocs gets."""
