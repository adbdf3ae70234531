"""Kernels of our own that are not, or not yet, part of the models."""
