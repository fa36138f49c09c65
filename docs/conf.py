"""Sphinx configuration: numpydoc API pages, a gallery of examples, no network."""

import os
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import mathematics_pictures

import skvae


def _own_methods(estimator):
    """Return the public methods, without those that scikit-learn documents.

    The docstrings of get_params, set_output and the like refer to scikit-learn's own
    manual.
    """
    shown = {"fit_transform", "get_feature_names_out"}
    for base in getattr(estimator, "__mro__", ()):
        if base.__module__.startswith("skvae"):
            shown |= {
                name for name in vars(base) if not name.endswith(("__", "_request"))
            }
    return shown


project = "skvae"
author = "The skvae developers"
copyright = "2026, The skvae developers"
release = installed_version("skvae")
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "auto_examples/*.ipynb", "auto_examples/*.py"]

# API pages: one stub per object; the template lists the methods of a class.
autosummary_generate = True
autosummary_context = {
    "estimator_methods": {
        name: _own_methods(getattr(skvae, name)) for name in skvae.__all__
    }
}
autodoc_typehints = "none"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"quickstart\.py",
    "within_subsection_order": "FileNameSortKey",
    "doc_module": ("skvae",),
    "backreferences_dir": "generated/backreferences",
    "reference_url": {"skvae": None},
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "plot_gallery": "True",
}

html_theme = "pydata_sphinx_theme"
html_title = "skvae"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "show_nav_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def _quote_fitted_attributes(app, what, name, obj, options, lines):
    """Put backticks around fitted attributes in shapes: else they become links."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = re.sub(r"(?<![`\w.])([a-z]\w*_)(?=[,)])", r"``\1``", line)


def _draw_mathematics(app):
    """Draw the pictures of the page on mathematics, unless they exist."""
    folder = Path(app.srcdir) / "_static" / "mathematics"
    if not folder.exists():
        mathematics_pictures.write(folder)


def setup(app):
    """Connect the functions; that of docstrings before numpydoc (priority 500)."""
    app.connect("builder-inited", _draw_mathematics)
    app.connect("autodoc-process-docstring", _quote_fitted_attributes, priority=400)
