"""Sphinx: `make docs` builds the site into docs/_build/html."""

from importlib.metadata import version as installed

project = "RelDrop"
release = installed("reldrop")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"RelDrop {release}"
templates_path = ["_templates"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autosummary_generate = True
autosummary_ignore_module_all = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "code"  # docstrings set names in single backticks, as torch's comments do
myst_heading_anchors = 3
nitpicky = False
