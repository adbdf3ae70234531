"""A local page: a photograph in, classes and attention out."""
