"""Configuration of the documentation, for Sphinx."""

import datetime
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as installed_version
from pathlib import Path
from urllib.request import urlopen

from sunpy_sphinx_theme import SVG_ICON

sys.path.insert(0, str(Path(__file__).parent))  # for architecture.py

# -- Project ---------------------------------------------------------------------------------

project = "esis_ndcube"
author = "The esis_ndcube developers"
copyright = f"2026-{datetime.datetime.now(tz=datetime.UTC).year}, {author}".replace("2026-2026", "2026")
release = installed_version("esis_ndcube")
version = ".".join(release.split(".")[:2])

# -- General ---------------------------------------------------------------------------------

extensions = [
    "architecture",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_automodapi.automodapi",
    "sphinx_automodapi.smart_resolver",
    "sphinx_changelog",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.bibtex",
    "sunpy.util.sphinx.doctest",
]
# The extension from sunpy makes the directives of pytest-doctestplus known to Sphinx.
suppress_warnings = ["app.add_directive"]
default_role = "obj"
exclude_patterns = ["_build", "generated/**/*.inc"]

# -- Reference -------------------------------------------------------------------------------

numpydoc_show_class_members = False  # automodapi does that
automodapi_inheritance_diagram = False  # would need graphviz
automodapi_toctreedirnm = "generated/api"
autodoc_typehints = "none"  # numpydoc's sections give the types

bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

plot_include_source = True
plot_html_show_source_link = False
plot_formats = [("png", 150)]

# -- Executed examples ------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "generated/gallery",
    "subsection_order": [
        f"../examples/{name}" for name in ("first_steps", "alignment", "corrections", "beyond", "flight")
    ],
    "reference_url": {"esis_ndcube": None},
    "abort_on_example_error": True,
    "capture_repr": (),
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
}

# -- Links to other packages -----------------------------------------------------------------

inventories = {
    "python": "https://docs.python.org/3/",
    "astropy": "https://docs.astropy.org/en/stable/",
    "dask": "https://docs.dask.org/en/stable/",
    "distributed": "https://distributed.dask.org/en/stable/",
    "gwcs": "https://gwcs.readthedocs.io/en/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
    "ndcube": "https://docs.sunpy.org/projects/ndcube/en/stable/",
    "numpy": "https://numpy.org/doc/stable/",
    "regions": "https://astropy-regions.readthedocs.io/en/stable/",
    "reproject": "https://reproject.readthedocs.io/en/stable/",
    "scipy": "https://docs.scipy.org/doc/scipy/",
    "sunpy": "https://docs.sunpy.org/en/stable/",
}


def _reachable(url):
    try:
        with urlopen(url + "objects.inv", timeout=10):
            return True
    except OSError:
        return False


# An inventory that cannot be fetched is a warning, and warnings are errors in a build.
# So without a network, or with ESIS_NDCUBE_DOCS_OFFLINE set, the links to other packages are left out.
if os.environ.get("ESIS_NDCUBE_DOCS_OFFLINE"):
    intersphinx_mapping = {}
else:
    with ThreadPoolExecutor(len(inventories)) as pool:
        reached = pool.map(_reachable, inventories.values())
    intersphinx_mapping = {
        name: (url, None) for (name, url), ok in zip(inventories.items(), reached, strict=True) if ok
    }

# Every name must be found, except names of other packages, which may be left out.
nitpicky = True
nitpick_ignore_regex = [
    (
        r"py:.*",
        rf"({'|'.join((*(inventories.keys() - {'python'}), 'abc', 'datetime', 'enum', 'parfive', 'pathlib'))})(\..*)?",
    ),
]

# -- HTML ------------------------------------------------------------------------------------

html_theme = "sunpy"
html_title = f"{project} {release}"
html_favicon = str(SVG_ICON)  # the link of the theme itself leads nowhere on pages in folders
html_static_path = ["_static"]
html_css_files = ["architecture.css"]
