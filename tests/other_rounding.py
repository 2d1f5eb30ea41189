"""Run notebooks as another processor would, and print every output that differs from the saved one.

    python tests/other_rounding.py notebooks/00_start_here.ipynb …

Two threads inside an operation, other first weights of every model, MKL-DNN off. What the prose
says of an output has to hold for both. Nothing is saved.
"""

import argparse
import difflib
import os
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from notebook_checks import output_text

OTHER = """
import torch as _torch
from fedlab_helpers import SentimentLSTM as _Reviews
from fedlab_helpers.tasks.next_word import TiedLSTM as _Words
from fedlab_helpers.tasks.series import SeriesRNN as _Series
_torch.backends.mkldnn.enabled = False
_set = _torch.set_num_threads
_torch.set_num_threads = lambda _count: _set(2)
_set(2)
def _reseed(model):
    first = model.__init__
    def other(self, *args, seed=0, **options):
        first(self, *args, seed=(seed or 0) + {seed}, **options)
    model.__init__ = other
for _model in (_Reviews, _Words, _Series):
    _reseed(_model)
"""
PICTURES = re.compile(r"<(?:Figure|Picture) [^>]*>")


def texts(cell: dict) -> list[str]:
    found = []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        plain = {kind: data[kind] for kind in ("text/plain",) if kind in data}
        found.append(output_text(output | {"data": plain} if plain else output))
    return PICTURES.sub("", "\n".join(found)).splitlines()


def compare(path: Path, seed: int) -> int:
    """Run one notebook; return how many of its cells say something else, or nothing at all."""
    saved = nbformat.read(path, 4)
    other = nbformat.read(path, 4)
    other.cells.insert(0, nbformat.v4.new_code_cell(OTHER.format(seed=seed)))
    client = NotebookClient(
        other, timeout=900, allow_errors=True, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    found = 0
    for before, after in zip(saved.cells, other.cells[1:], strict=True):
        if texts(before) != texts(after):
            found += 1
            print(f"--- {path.name} {before.id}")
            lines = difflib.unified_diff(texts(before), texts(after), n=0, lineterm="")
            print("\n".join(list(lines)[2:]))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=1000, help="added to each model's seed")
    options = parser.parse_args()
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    for notebook in options.notebooks:
        print(f"{compare(notebook.resolve(), options.seed)} cells differ in {notebook.name}")
