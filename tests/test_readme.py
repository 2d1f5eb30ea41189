"""README's example runs as it stands, and its figures are those of the tables."""

import re

import pandas as pd
from notebook_checks import ROOT, local_links
from test_house import ROOMS

from fedlab_helpers.strategies import STRATEGIES
from fedlab_helpers.studies.results import half_width

README = (ROOT / "README.md").read_text("utf-8")
WORDS = " ".join(README.split())
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RESULTS = ROOT / "data" / "results"


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def test_the_examples_run(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    reviews, series, own = BLOCKS
    assert sum(bool(line.strip()) for line in series.splitlines()) <= 15
    for block in (reviews, series):
        exec(block, {})
        assert capsys.readouterr().out.count("\n") == 7  # two header lines and five rounds
    exec(own, {"__name__": "somebodys_own"})
    assert "Momentum(lr=1.0, beta=0.5)" in capsys.readouterr().out
    del STRATEGIES["heavy"]


def test_links_point_at_files():
    """JupyterLab's preview opens no folder."""
    assert [link for link in local_links(README) if not (ROOT / link).is_file()] == []


def test_readme_names_the_rooms():
    part = README.partition("## The package")[2].partition("\n## ")[0]
    rooms = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    assert rooms == list(ROOMS)


def test_the_figures_of_speed_and_memory_are_those_of_the_tables():
    speed = table("round_speed")
    ratios = (speed["federated_s"] / speed["plain_s"]).groupby(speed["case"]).median()
    memory = table("round_memory").groupby("clients")["peak_growth_mib"]
    few, many = (f"{memory.median()[n]:.0f} MiB" for n in (50, 1000))
    assert f"{ratios['20 x 320']:.2f} times as long" in WORDS
    assert f"{ratios['500 x 28']:.2f} times for 500 clients" in WORDS
    assert f"by {few} over the rounds with 50 clients, and by {many}" in WORDS


def test_the_figures_of_the_engines_are_those_of_the_table():
    runs = table("engines").groupby(["engine", "clients"])
    seconds = runs["seconds_a_round"].agg(["median", "min", "max"])
    engines = ("here", "here_dense", "flower_nodes", "flower_own", "pfl_own")
    rows = [line for line in README.splitlines() if line.count(" MiB |") == 2]
    for row, engine in zip(rows, engines, strict=True):
        for clients in (20, 500):
            middle, least, most = seconds.loc[engine, clients]
            peak = runs["peak_mib"].max()[engine, clients]
            assert f"| {middle:.2f} s ({least:.2f} to {most:.2f}) | {peak:,.0f} MiB |" in row


def test_the_figures_of_strategies_are_those_of_the_tables():
    study = pd.concat([table("aggregation"), table("aggregation_again")])
    run = ["partition", "strategy", "seed"]
    points = 100 * study[study["round"] > 15].groupby(run)["accuracy"].mean().unstack("seed")
    central = study[study["strategy"] == "centralised"]
    tuned = table("aggregation_rates").query("strategy == 'centralised'")
    epoch = tuned.loc[tuned["validation_accuracy"].idxmax(), "round"]
    line = 100 * central[central["round"] == epoch].set_index("seed")["accuracy"]
    assert f"({line.mean():.1f}% over six seeds)" in WORDS

    def told(ahead):
        return f"{abs(ahead.mean()):.1f} ± {ahead.sem():.1f}"

    at_random, by_domain = points.loc["iid"], points.loc["by_domain"]
    assert f"at random ({told(at_random.loc['fedavg'] - line)} points from it)" in WORDS
    assert f"and {told(by_domain.loc['fedavg'] - line)} below it by domain" in WORDS
    more = [told(deal.loc["rowwise"] - deal.loc["fedavg"]) for deal in (at_random, by_domain)]
    assert f"brings {more[0]} points more at random and {more[1]} by domain" in WORDS
    half, tenth = (points.loc[f"dirichlet {alpha}"] for alpha in (0.5, 0.1))
    gain = told((half.loc["calibrated"] - half.loc["fedavg"]).dropna())
    assert f"calibrated logits bring {gain} points" in WORDS
    assert f"At 0.1 FedAvg has {tenth.loc['fedavg'].mean():.0f}%" in WORDS
    for name in ("fedadagrad", "calibrated_uniform_rowwise_2"):
        assert round((tenth.loc[name] - tenth.loc["fedavg"]).mean()) == 9
    plain = study[(study["partition"] == "dirichlet 0.1") & (study["strategy"] == "fedavg")]
    plain = plain.reset_index(drop=True)
    kept = plain.loc[plain.groupby("seed")["validation_accuracy"].idxmax(), "accuracy"]
    assert f"takes plain FedAvg to {kept.mean():.0%}" in WORDS


def test_the_figures_of_compression_are_those_of_the_tables():
    every = table("compression")
    keys = ["partition", "downlink", "codec", "seed"]
    late = every[every["round"] > 15].assign(lost=lambda t: (t["lost"] - t["gained"]) / 34.73)
    lost = late.groupby(keys)["lost"].mean().groupby(keys[:3]).agg(["mean", half_width])
    last = every[every["round"] == 20].set_index(keys)
    up = (last["dense_bytes_up"] / last["bytes_up"]).groupby(keys[:3]).mean()
    both = 2 * last["dense_bytes_up"] / (last["bytes_up"] + last["bytes_down"])
    both = both.groupby(keys[:3]).mean()
    told = {("iid", "whole", codec): up for codec in ("ternary, zstd", "rank 1 in 4 bits, EF")}
    for partition in ("iid", "by_domain"):
        assert f"by {up[partition, 'whole', 'touched rows']:.2f}" in WORDS
        for codec in ("top 10% sign, EF", "rank 2 in 4 bits, EF"):
            told[partition, "whole", codec] = up
    for downlink in ("top 10% sign of changes, known start", "changes of rank 2"):
        told["iid", downlink, "top 10% sign, EF, momentum"] = both
    for run, factor in told.items():
        points = f"{lost.loc[run, 'mean']:.2f} ± {lost.loc[run, 'half_width']:.2f}"
        assert f"{factor[run]:.0f} times for {points}" in WORDS, run
    time = table("codec_time")
    shares = (time["codec_seconds"] / time["seconds"]).groupby(time["codec"]).median()
    assert f"take {shares['top 10% sign, EF, momentum']:.0%} of a round" in WORDS
    assert f"and {shares['rank 1, EF']:.0%} for low rank" in WORDS


def test_the_figures_of_small_models_are_those_of_the_tables():
    every = table("shrinking_again")
    every["points"] = (every["lost"] - every["gained"]) / 34.73
    recipes = every.groupby("recipe")
    points, sizes = recipes["points"].agg(["mean", half_width]), recipes["bytes"].mean()
    speed = table("model_speed").set_index("model")
    whole = speed.loc["whole, PyTorch"]
    assert f"{100 * recipes['accuracy'].mean()['whole, PyTorch']:.1f}%, 3.1 MB" in WORDS

    def lost(recipe):
        mean, half = points.loc[recipe]
        return f"{mean:.2f} ± {half:.2f}".replace("-", "−")

    for recipe in (
        "all words, rank 8, 16 units, 4 bits",
        "4000 words, rank 8, 16 units, 8 bits",
        "4000 words, rank 8, 16 units, 4 bits",
        "4000 words, 16 wide, 32 units, 8 bits",
    ):
        smaller = sizes["whole, PyTorch"] / sizes[recipe]
        faster = whole["one_review_s"] / speed.loc[recipe, "one_review_s"]
        told = f"{smaller:.0f} times smaller, {faster:.1f} times as fast, {lost(recipe)} points"
        assert told in WORDS, told
    recipe = "4000 words, trained on"
    smaller = sizes["whole, PyTorch"] / sizes[recipe]
    assert f"{smaller:.1f} times smaller, {lost(recipe)} points" in WORDS
    faster = whole["one_review_s"] / speed.loc["whole", "one_review_s"]
    assert f"{faster:.1f} times as fast in ONNX Runtime" in WORDS
    rounds = table("federated_distillation").groupby(["partition", "way", "round"])
    rounds = rounds[["accuracy", "total_bytes"]].mean()
    late = rounds.query("round > 3").groupby(["partition", "way"])["accuracy"].mean()
    alone, exchange, averaged = (
        f"{100 * late['iid', way]:.1f}%" for way in ("alone", "exchange", "averaged")
    )
    assert f"{alone} alone, {exchange} with" in WORDS
    sent = rounds.xs(8, level="round")["total_bytes"]["iid"]
    more = sent["averaged"] / sent["exchange"]
    assert f"{averaged}, for {more:.0f} times the bytes" in WORDS


def test_every_table_is_named_with_where_it_is_read():
    for path in RESULTS.glob("*.csv"):
        assert f"`{path.stem}`" in README or f"{path.stem}.csv" in README, path.stem
