"""What a reader would trip over in a saved notebook: each check takes the parsed notebook."""

import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from nbformat.validator import iter_validate

ROOT = Path(__file__).resolve().parents[1]

IMAGE_LIMIT = 150_000  # bytes of base64 text
LINE_LIMIT = 79
OWN_PLACES = {str(ROOT), str(Path.home()), tempfile.gettempdir()} - {"/"}
MACHINE_PATH = re.compile(
    "|".join(rf"{re.escape(place)}(?![\w-])" for place in sorted(OWN_PLACES))
    + r"|/home/\w+|/Users/\w+|\b[A-Za-z]:\\+Users"
)
CODE_SPAN = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(
    r"\]\(\s*<?([^)\s>]+)[^)]*\)"  # [text](target "title"), and images
    r"|^\[[^\]]+\]:\s*(\S+)"  # [name]: target
    r"""|\b(?:href|src)=["']([^"']+)["']""",
    re.MULTILINE,
)


def joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def code_cells(notebook: dict) -> list[dict]:
    """Return the code cells that hold something to run."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [cell for cell in cells if joined(cell["source"]).strip()]


def outputs(notebook: dict) -> Iterator[tuple[str, dict]]:
    """Yield each output with the id of its cell."""
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            yield cell.get("id", "?"), output


def output_text(output: dict) -> str:
    """Return all that an output says in letters; pictures are left out."""
    data = output.get("data", {})
    shown = [joined(value) for kind, value in data.items() if kind.startswith("text/")]
    return "\n".join([joined(output.get("text", "")), *output.get("traceback", []), *shown])


def schema_errors(notebook: dict) -> list[str]:
    version = (notebook.get("nbformat"), notebook.get("nbformat_minor"))
    old = [] if version >= (4, 5) else [f"nbformat {version}: expected 4.5, which has cell ids"]
    return old + [error.message for error in iter_validate(notebook)]


def id_errors(notebook: dict) -> list[str]:
    ids = [cell.get("id") for cell in notebook["cells"]]
    missing = [f"cell {place}: no id" for place, id_ in enumerate(ids) if not id_]
    return missing + [f"{id_}: id is there twice" for id_ in {i for i in ids if ids.count(i) > 1}]


def run_errors(notebook: dict) -> list[str]:
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    in_order = counts == list(range(1, len(counts) + 1))
    return [] if in_order else [f"execution counts {counts}: not one run from top to bottom"]


def trouble(notebook: dict) -> list[str]:
    return [
        f"{cell}: {output_text(output)[:80] or output.get('ename')!r}"
        for cell, output in outputs(notebook)
        if output["output_type"] == "error" or output.get("name") == "stderr"
    ]


def machine_paths(notebook: dict) -> list[str]:
    texts = [(cell.get("id", "?"), joined(cell["source"])) for cell in notebook["cells"]]
    texts += [(cell, output_text(output)) for cell, output in outputs(notebook)]
    return [f"{cell}: {m.group()}" for cell, text in texts for m in MACHINE_PATH.finditer(text)]


def large_images(notebook: dict) -> list[str]:
    return [
        f"{cell}: {kind} of {len(joined(value)):,} characters"
        for cell, output in outputs(notebook)
        for kind, value in output.get("data", {}).items()
        if kind.startswith("image/") and len(joined(value)) > IMAGE_LIMIT
    ]


def widget_state(notebook: dict) -> list[str]:
    return ["metadata: saved widget state"] if "widgets" in notebook["metadata"] else []


def long_lines(notebook: dict) -> list[str]:
    return [
        f"{cell.get('id')}: {len(line)} characters: {line[:40]}…"
        for cell in code_cells(notebook)
        for line in joined(cell["source"]).splitlines()
        if len(line) > LINE_LIMIT
    ]


def local_links(markdown: str) -> list[str]:
    """Return the links and images that point at files, without what stands in code."""
    found = ["".join(groups) for groups in LINK.findall(CODE_SPAN.sub("", markdown))]
    local = [link.partition("#")[0] for link in found if not re.match(r"[a-z]+:", link)]
    return [unquote(link) for link in local if link]


def broken_links(markdown: str, folder: Path, root: Path = ROOT) -> list[str]:
    targets = [(link, (folder / link).resolve()) for link in local_links(markdown)]
    fine = {link for link, target in targets if target.exists() and target.is_relative_to(root)}
    return [f"{link}: no such file in the project" for link, _ in targets if link not in fine]


def prose(notebook: dict) -> str:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return "\n\n".join(joined(cell["source"]) for cell in cells)


def unpaired(notebooks: Iterable[str], solutions: Iterable[str]) -> list[str]:
    """Return the names, without ending, that lack a solution or that are a solution of nothing."""
    return sorted({f"{name}_solutions" for name in notebooks} ^ set(solutions))


CHECKS = [
    schema_errors, id_errors, run_errors, trouble, machine_paths, large_images, widget_state,
    long_lines,
]  # fmt: skip
