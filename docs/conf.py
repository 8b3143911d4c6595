"""How Sphinx builds the site: ``make docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).with_name("_ext")))

import as_softmax_jax

DOCS = Path(__file__).parent
project = "as_softmax_jax"
author = copyright = "The as_softmax_jax authors"
version = release = as_softmax_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "api_pages",
    "code_names",
    "mathml",
    "tutorials",
    "repository",
]
exclude_patterns = ["_ext", "results"]

# What GitHub shows, the site shows, and each heading has an anchor by GitHub's rule.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
# `train.compare` writes its sections for any page, by headings of the third level.
suppress_warnings = ["myst.header"]

nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS.parent / "build" / "notebooks")
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

# A name in single backticks is code, and a link where a page documents it.
default_role = "code_name"
nitpicky = True
# Types that no page documents are shown as they are written, without a link.
nitpick_ignore_regex = [("py:.*", r"(?!as_softmax_(jax|train)\.).*|.*\._.*")]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 60
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False
viewcode_line_numbers = True

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "as_softmax_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(DOCS / "_static" / "scorer.js")
html_copy_source = False
html_math_renderer = "mathml"
copybutton_exclude = ".linenos, .gp, .go"
