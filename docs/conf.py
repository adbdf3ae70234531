"""Sphinx reads this: `sphinx-build -W --keep-going docs docs/_build`."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from vit_jax import __version__  # noqa: E402  found where this file lies

project = "vit_jax"
author = "the authors of vit_jax"
copyright = "the authors of vit_jax, Apache-2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference_pages"]
exclude_patterns = ["_build", "pictures/README.md"]
smartquotes = False  # quotes are to be copied as they are
default_role = "literal"  # `name` in a docstring

myst_heading_anchors = 3
myst_enable_extensions = ["deflist", "colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Fields", "Attributes")]
napoleon_use_ivar = True  # fields are described in the text, and not a second time

# Every name of ours that is referred to must exist; other libraries have pages of their own, and
# none of them is asked.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!vit_jax\.).*")]

html_theme = "furo"
html_title = f"vit_jax {version}"
html_static_path: list[str] = []
html_copy_source = False
