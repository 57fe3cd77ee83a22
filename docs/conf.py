"""How Sphinx builds these pages: ``sphinx-build -W -b html docs docs/_build``."""

import os
from importlib.metadata import version as installed

project = "agatha_ckpt"
author = "the authors of agatha_ckpt"
copyright = "the authors of agatha_ckpt, MIT licence"
version = release = installed("agatha-ckpt")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "agatha_ckpt"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
pygments_dark_style = "github-dark"
nitpicky = False

# Docstrings say `name` of what is code.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings give the types, in words
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # else the attributes of two classes are ambiguous targets

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The inventories of other projects need a network, and without one -W fails.
if os.environ.get("READTHEDOCS") or os.environ.get("DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "dask": ("https://docs.dask.org/en/stable", None),
        "distributed": ("https://distributed.dask.org/en/stable", None),
        "fsspec": ("https://filesystem-spec.readthedocs.io/en/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
    }
