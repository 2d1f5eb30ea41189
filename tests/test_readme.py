"""README's example runs as it stands, and its figures are those of the tables."""

import re

import pandas as pd
from notebook_checks import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_the_example_on_a_readers_own_reviews_runs(monkeypatch, capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 1
    monkeypatch.chdir(ROOT)
    exec(blocks[0], {})
    assert capsys.readouterr().out.count("\n") == 7  # two header lines and five rounds


def test_the_figures_of_speed_and_memory_are_those_of_the_tables():
    results = ROOT / "data" / "results"
    speed = pd.read_csv(results / "round_speed.csv")
    ratios = (speed["federated_s"] / speed["plain_s"]).groupby(speed["case"]).median()
    memory = pd.read_csv(results / "round_memory.csv").groupby("clients")["peak_growth_mib"]
    words = " ".join(README.split())
    few, many = (f"{memory.median()[n]:.0f} MiB" for n in (50, 1000))
    assert f"{ratios['20 x 320']:.2f} times as long" in words
    assert f"{ratios['500 x 28']:.2f} times for 500 clients" in words
    assert f"by {few} over the rounds with 50 clients, and by {many}" in words


def test_every_table_is_named_with_where_it_is_read():
    for path in (ROOT / "data" / "results").glob("*.csv"):
        assert f"`{path.stem}`" in README or f"{path.stem}.csv" in README, path.stem
