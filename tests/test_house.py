"""The house rules: which room imports from which, how long functions may be, and docstrings."""

import ast
from pathlib import Path

import pytest

import fedlab_helpers

PACKAGE = Path(fedlab_helpers.__file__).parent
LONGEST_FUNCTION = 40  # lines; a function's docstring is not counted
CORE_LINES = 2_973  # to be 2,150: what a newcomer reads in an hour

# A room imports only from rooms that stand before it.
ROOMS = (
    "core",
    "tasks",
    "compression",
    "privacy",
    "strategies",
    "shrinking",
    "personal",
    "recipe",
    "network",
    "studies",
    "lessons",
)

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
    """Return the public names of a module, and of its public classes, that have none; methods of a
    class with bases may have that of what they override."""
    scopes = [("", tree)]
    bare = [] if ast.get_docstring(tree) else ["the module itself"]
    for prefix, scope in scopes:
        for node in scope.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            inherits = isinstance(scope, ast.ClassDef) and scope.bases
            if not inherits and not ast.get_docstring(node):
                bare.append(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                scopes.append((f"{node.name}.", node))
    return bare


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_the_rooms_are_those_of_the_plan():
    assert {module_of(path) for path in FILES} - {"__init__", "__main__"} <= set(ROOMS)


@each_file
def test_a_room_imports_only_from_rooms_before_it(path):
    here = module_of(path)
    if here not in ("__init__", "__main__"):
        later = set(ROOMS[ROOMS.index(here) + 1 :])
        assert not imported(parse(path)) & later


def test_the_core_imports_no_other_room_and_keeps_its_budget():
    core = [path for path in FILES if module_of(path) == "core"]
    assert set().union(*(imported(parse(path)) for path in core)) == {"core"}
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in core) <= CORE_LINES


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
        "import fedlab_helpers.core.wire, os\n"
        "from fedlab_helpers import rows as r, state, __version__\n"
        "def f():\n    from fedlab_helpers.lessons.checks.verdict import x\n"
    )
    assert imported(ast.parse(source)) == {"core", "rows", "state", "lessons"}
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
