"""Texts: into tokens, and from names of classes into prompts."""
