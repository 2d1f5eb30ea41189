"""The house rules: which module stands on which floor, how long things may be, and docstrings."""

import ast
from pathlib import Path

import pytest

import fedlab_helpers

PACKAGE = Path(fedlab_helpers.__file__).parent
LONGEST_MODULE, LONGEST_FUNCTION = 250, 40  # lines; a function's docstring is not counted

# A module imports only from lower floors. A folder is one module.
FLOORS = {
    "devices": 0,
    "pace": 0,
    "state": 0,
    "strings": 0,
    "csv_reviews": 0,
    "token_cache": 0,
    "classify": 0,
    "rnn": 0,
    "corpus": 1,
    "partition": 1,
    "models": 1,
    "updates": 1,
    "history": 1,
    "divergence": 1,
    "parallel": 1,
    "audit": 2,
    "per_client": 2,
    "text": 2,
    "wire": 2,
    "conventions": 2,
    "task": 3,
    "rows": 3,
    "training": 3,
    "checkpoint": 3,
    "compression": 3,
    "messages": 3,
    "strategy": 4,
    "plan": 4,
    "members": 4,
    "means": 5,
    "server_steps": 5,
    "clients": 5,
    "downlink": 5,
    "attacks": 5,
    "drift": 6,
    "fairness": 6,
    "robust": 6,
    "ledger": 6,
    "personal_strategies": 6,
    "personalization": 7,
    "aggregation": 7,
    "federated": 7,
    "asynchronous": 7,
    "plots": 8,
    "catalogue": 8,
    "clusters": 8,
    "shrinking": 8,
    "compression_run": 8,
    "course": 8,
    "lab": 9,
    "network": 9,
    "compression_plots": 9,
    "methods": 9,
    "partition_plots": 9,
    "seed_plots": 9,
    "studies": 10,
    "race": 10,
    "personal_run": 10,
    "personal_plots": 11,
    "experiments": 11,
    "comparison": 12,
    "race_plot": 13,
    "checks": 13,
    "widgets": 14,
}

FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))


def module_of(path: Path) -> str:
    """Return the name by which a file stands in the table."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Return the modules of the package that a file imports, wherever the import stands."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names]
    return {rest[0] for root, *rest in parts if root == PACKAGE.name and rest[0] != "__version__"}


def functions(tree: ast.AST) -> list[ast.FunctionDef]:
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def length(function: ast.FunctionDef) -> int:
    """Return how many lines a function has, without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    return lines


def without_docstring(tree: ast.Module) -> list[str]:
    """Return the public names of a module, and of its public classes, that have none."""
    scopes = [("", tree)]
    bare = [] if ast.get_docstring(tree) else ["the module itself"]
    for prefix, scope in scopes:
        for node in scope.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            overrides = prefix and node.name in ("extra_repr",)
            if not overrides and not ast.get_docstring(node):
                bare.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                scopes.append((f"{node.name}.", node))
    return bare


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_module_has_its_floor_and_the_table_no_other():
    assert {module_of(path) for path in FILES} - {"__init__"} == FLOORS.keys()


def test_the_table_is_written_from_the_ground_up():
    assert list(FLOORS.values()) == sorted(FLOORS.values())


@each_file
def test_imports_come_from_lower_floors(path):
    here = module_of(path)
    others = imported(parse(path)) - {here}
    higher = {name for name in others if FLOORS[name] >= FLOORS.get(here, 0)}
    assert not higher, f"{here} stands on floor {FLOORS.get(here, 0)} and imports {higher}"


@each_file
def test_no_module_is_too_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@each_file
def test_no_function_is_too_long(path):
    long = {f.name: length(f) for f in functions(parse(path)) if length(f) > LONGEST_FUNCTION}
    assert not long


@each_file
def test_public_names_have_docstrings(path):
    assert without_docstring(parse(path)) == []


# The rules see what they are to see.


def test_imports_are_found_wherever_they_stand():
    source = (
        "import fedlab_helpers.wire, os\n"
        "from fedlab_helpers import rows as r, state, __version__\n"
        "def f():\n    from fedlab_helpers.checks.verdict import x\n"
    )
    assert imported(ast.parse(source)) == {"wire", "rows", "state", "checks"}
    with pytest.raises(AssertionError, match="line 1: relative import"):
        imported(ast.parse("from . import wire"))


def test_lines_of_a_function_are_counted_without_its_docstring():
    source = 'def f(\n    x,\n):\n    """One.\n\n    Two.\n    """\n    return x\n'
    (function,) = functions(ast.parse(source))
    assert length(function) == 4


def test_missing_docstrings_are_found_in_classes_too():
    source = "class A:\n    def b(self): ...\n    def _c(self): ...\ndef d(): ...\ndef _e(): ...\n"
    bare = without_docstring(ast.parse(source))
    assert bare == ["the module itself", "A", "d", "A.b"]
