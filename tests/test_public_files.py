"""The workflow does what README promises, and CITATION.cff says what README and LICENSE say."""

import re
import subprocess
import sys

import pytest
import yaml
from notebook_checks import ROOT

import fedlab_helpers

README = (ROOT / "README.md").read_text("utf-8")
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
JOBS = WORKFLOW["jobs"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))


def steps(job: str, key: str) -> list[str]:
    return [step[key] for step in JOBS[job]["steps"] if key in step]


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("vendor.github-workflows", ".github/workflows/ci.yml"),
        ("vendor.citation-file-format", "CITATION.cff"),
    ],
)
def test_the_file_fits_its_schema(schema, name):
    pytest.importorskip("check_jsonschema", reason="needs: pip install -r .ci/requirements.txt")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, ROOT / name]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_the_workflow_runs_the_commands_of_readme_where_readme_says():
    (line,) = re.findall(r"^pip install -r requirements.txt && pytest$", README, re.MULTILINE)
    matrix = JOBS["tests"]["strategy"]["matrix"]
    assert line.split(" && ") == steps("tests", "run")[-2:]
    assert f"Python {', '.join(matrix['python'][:-1])} or {matrix['python'][-1]}, on" in README
    assert [os.partition("-")[0] for os in matrix["os"]] == ["ubuntu", "macos", "windows"]
    assert {"ruff check", "ruff format --check"} <= set(steps("lint", "run"))
    assert steps("browser", "run")[-1] == "pytest tests/browser"


def test_the_workflow_may_only_read_and_ends_by_itself():
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert WORKFLOW["concurrency"]["cancel-in-progress"]
    for job in JOBS:
        assert JOBS[job]["timeout-minutes"] <= 120
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", used) for used in steps(job, "uses"))


def test_the_citation_says_what_the_project_says():
    assert README.startswith(f"# {CITATION['title']}\n")
    assert CITATION["version"] == fedlab_helpers.__version__
    assert (ROOT / "LICENSE").read_text("utf-8").startswith(f"{CITATION['license']} License\n")
    assert CITATION["authors"] == [{"name": "The maintainers"}]
