"""The book: README, the saved notebooks and the pages of this folder, as a static site.

    pip install -r book/requirements.txt
    sphinx-build -W --keep-going -c book . book/_build/html

The source folder is the project's root, so that links between files are the same in both.
"""

import json
import shutil
from importlib.metadata import files
from pathlib import Path

project = "Federated learning of recurrent networks, hands on"
copyright = "2026, the fedlab_helpers authors, MIT licence"
root_doc = "book/index"
include_patterns = ["README.md", "data/README.md", "book/*.md"]
include_patterns += ["notebooks/*.ipynb", "notebooks/solutions/*.ipynb"]
exclude_patterns = ["**/.ipynb_checkpoints"]
extensions = ["myst_nb"]

html_theme = "furo"
html_title = project
html_static_path = ["book.css"]
html_css_files = ["book.css"]
html_extra_path = ["index.html"]  # leads to book/index.html
html_copy_source = False

# Saved outputs are shown as they are. A widget needs a kernel, so the picture beside it is shown.
nb_execution_mode = "off"
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

# Formulas without a network: of MathJax's 24 MB two parts are needed.
mathjax_path = "mathjax/tex-chtml.js"
MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2")


def name_cells(app, docname: str, content: list[str]) -> None:
    """Put an anchor before each cell but the first, so that links to a cell's id work."""
    if Path(app.env.doc2path(docname)).suffix == ".ipynb":
        notebook = json.loads(content[0])
        cells = notebook["cells"][:1]
        for cell in notebook["cells"][1:]:
            name = f"cell-{cell['id']}"
            anchor = {"cell_type": "markdown", "id": name, "metadata": {}}
            cells += [anchor | {"source": f'<a id="{name}"></a>'}, cell]
        content[0] = json.dumps(notebook | {"cells": cells})


def accept_links(app, doctree) -> None:
    """Let links name a cell's id, or a heading as JupyterLab writes it: with its capitals."""
    path = Path(app.env.doc2path(app.env.docname))
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for line, target, text in list(slugs.values()):
        slugs.setdefault(text.replace(" ", "-"), (line, target, text))
    if path.suffix == ".ipynb":
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            slugs.setdefault(cell["id"], (0, f"cell-{cell['id']}", ""))


def copy_mathjax(app, error) -> None:
    """Put the parts of MathJax that the pages load beside them."""
    if error is None and app.builder.format == "html":
        (loader,) = (f for f in files("sphinx-mathjax-offline") if f.name == MATHJAX[0])
        source, target = Path(loader.locate()).parent, app.outdir / "_static" / "mathjax"
        shutil.copytree(source / MATHJAX[1], target / MATHJAX[1], dirs_exist_ok=True)
        shutil.copy(source / MATHJAX[0], target)


def setup(app) -> None:
    """Tell Sphinx of the three functions above."""
    app.connect("source-read", name_cells)
    app.connect("doctree-read", accept_links)
    app.connect("build-finished", copy_mathjax)
