"""What a reader would trip over in a saved notebook: each check takes the parsed notebook."""

import re
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from nbformat.validator import iter_validate

ROOT = Path(__file__).resolve().parents[1]

IMAGE_LIMIT = 150_000  # bytes of base64 text
LINE_LIMIT = 79
CELL_LINES = 25  # of code, blank ones not counted
CELL_LIMIT = 80  # cells of a notebook: one sitting
NUMBERS_LIMIT = 4  # in a paragraph
OWN_PLACES = {str(ROOT), str(Path.home()), tempfile.gettempdir()} - {"/"}
MACHINE_PATH = re.compile(
    "|".join(rf"{re.escape(place)}(?![\w-])" for place in sorted(OWN_PLACES))
    + r"|/home/\w+|/Users/\w+|\b[A-Za-z]:\\+Users"
)
MATH = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:%|\b)(?!\.?\d)")
FIGURE = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+%?|%)(?!\.?\d)")  # a percent sign or decimals
SHOWN = re.compile(r"(?<![A-Za-z_])\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?")
NAMED = re.compile(r"95% (?:confidence )?intervals?", re.IGNORECASE)  # not a figure, a name
CITATION = re.compile(r"arxiv|doi\.org|\((?:[^()]* )?(?:19|20)\d\d[a-z]?\)", re.IGNORECASE)
POINTER = re.compile(r"(?:notebooks?|exercises?)(?:[ ,]|and|to|\d+)*\d", re.IGNORECASE)
EXERCISE = re.compile(r"###? Exercise \d+ · \S")
KIND = re.compile(r"\*(?:One minute|Code|Experiment|Open)\b[^*]*\.\*(?: |$)")
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


def paragraphs(cell: dict) -> Iterator[str]:
    """Yield each paragraph, list item and table row of a cell's prose, on one line.

    Code, formulas, and the targets of local links are left out.
    """
    if cell["cell_type"] == "markdown":
        text = MATH.sub(" ", CODE_SPAN.sub(" ", joined(cell["source"])))
        text = re.sub(r"\]\(\s*(?!http)[^)]*\)", "]", text)
        for part in re.split(r"\n\s*\n|\n(?=\s*(?:[-*>|]|\d+\.) ?)", text):
            yield " ".join(part.split())


def crowded(notebook: dict) -> list[str]:
    """Return the paragraphs that are walls of numbers; rows of tables may hold as many as fit."""
    return [
        f"{cell.get('id')}: more than {NUMBERS_LIMIT} numbers: {text[:50]}…"
        for cell in notebook["cells"]
        for text in paragraphs(cell)
        if not text.startswith("|")
        and len(NUMBER.findall(CITATION.sub(" ", POINTER.sub(" ", text)))) > NUMBERS_LIMIT
    ]


def shown_values(cell: dict) -> list[float]:
    """Return all numbers in the text of a cell's outputs, shares also as percentages."""
    text = "\n".join(output_text(output) for output in cell.get("outputs", []))
    values = [float(found.rstrip("%").replace(",", "")) for found in SHOWN.findall(text)]
    return values + [100 * value for value in values if value <= 1]


def unshown_figures(notebook: dict) -> list[str]:
    """Return the figures told in prose that no output before shows, rounded alike.

    A figure is a number with decimals or a percent sign. Left out are settings, which stand in
    backticks or $math$, predictions that are asked for, and paragraphs with a citation.
    """
    values: list[float] = []
    found = []
    for cell in notebook["cells"]:
        values = sorted([*values, *shown_values(cell)])
        for text in paragraphs(cell):
            told = not (text.startswith("**Predict.**") or CITATION.search(text))
            for figure in FIGURE.findall(NAMED.sub(" ", text)) if told else []:
                number = figure.rstrip("%").replace(",", "")
                half = 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-9
                place = bisect_left(values, float(number) - half)
                if place == len(values) or values[place] > float(number) + half:
                    found.append(f"{cell.get('id')}: {figure} not shown before: {text[:50]}…")
    return found


def too_long(notebook: dict) -> list[str]:
    count = len(notebook["cells"])
    found = [f"{count} cells: more than {CELL_LIMIT}"] if count > CELL_LIMIT else []
    for cell in code_cells(notebook):
        lines = [line for line in joined(cell["source"]).splitlines() if line.strip()]
        if len(lines) > CELL_LINES:
            found.append(f"{cell.get('id')}: {len(lines)} lines of code")
    return found


def other_styles(notebook: dict) -> list[str]:
    """Return predictions and exercises that do not look like those of the other notebooks."""
    found = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "markdown":
            continue
        lines = [line for line in joined(cell["source"]).splitlines() if line.strip()]
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if "**Predict" in line and not line.startswith("**Predict.** "):
                found.append(f"{cell.get('id')}: {line[:50]}")
            heading = re.match(r"#+ .*\bExercise \d|\*\*Exercise", line)
            kind = KIND.match(following) or not line.startswith("###")  # a solution has none
            if heading and not (EXERCISE.match(line) and kind):
                found.append(f"{cell.get('id')}: {line[:50]} / {following[:30]}")
    return found


def title(notebook: dict) -> str:
    """Return a notebook's number and English name, as links show them."""
    heading = joined(notebook["cells"][0]["source"]).splitlines()[0]
    return re.sub(r"[\u4e00-\u9fff].*", "", heading.removeprefix("# ")).strip()


def navigation(titles: dict[str, str]) -> dict[str, str]:
    """Return, for each notebook and each solution, the line that stands at both of its ends.

    Args:
        titles: of the series' notebooks, by file name without its ending, in reading order; one
            whose name begins with a letter stands beside the line.
    """
    line = [name for name in titles if name[0].isdigit()]
    links = {}
    for name in titles:
        before, after = None, None
        if name in line:
            place = line.index(name)
            before = line[place - 1] if place else None
            after = line[place + 1] if place + 1 < len(line) else None
        parts = [f"[← {titles[before]}]({before}.ipynb)"] if before else []
        parts += [f"[{titles[after]} →]({after}.ipynb)"] if after else []
        parts += [] if name in line else [f"[← {titles[line[0]]}]({line[0]}.ipynb)"]
        solutions = f"{name}_solutions"
        links[name] = " · ".join([*parts, f"[Solutions](solutions/{solutions}.ipynb)"])
        links[solutions] = f"[← {titles[name]}](../{name}.ipynb)"
    return links


def lost(notebook: dict, line: str) -> list[str]:
    """Return the ends of a notebook at which its line of links does not stand by itself."""
    ends = {"first": notebook["cells"][0], "last": notebook["cells"][-1]}
    return [
        f"{end} cell: expected the line {line}"
        for end, cell in ends.items()
        if cell["cell_type"] != "markdown" or line not in joined(cell["source"]).splitlines()
    ]


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
READS = [crowded, unshown_figures, too_long, other_styles]
