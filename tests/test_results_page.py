"""The page of what was measured: a section for each table, and its figures are the tables'."""

import math
import re
from collections.abc import Callable, Iterator

import pandas as pd
import pytest
from notebook_checks import ROOT, broken_links, local_links

from fedlab_helpers.studies import STUDIES
from fedlab_helpers.studies.briefs import BRIEFS
from fedlab_helpers.studies.results import RESULTS, half_width

PAGE = (RESULTS / "README.md").read_text("utf-8")
HEAD, *REST = re.split(r"^## ", PAGE, flags=re.MULTILINE)
SECTIONS = {title: text for title, _, text in (part.partition("\n") for part in REST)}
TABLES = {path.stem for path in RESULTS.glob("*.csv")}
SEARCHES = {f"search_{name}" for name in BRIEFS}
TEST_REVIEWS = 3473
FIGURES: dict[str, Callable[[], Iterator[str]]] = {}


def section(title: str) -> Callable:
    """Note that a function yields what a section must say: all its figures with an error, and
    some without."""

    def note(figures: Callable[[], Iterator[str]]) -> Callable[[], Iterator[str]]:
        FIGURES[title] = figures
        return figures

    return note


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv", keep_default_na=name != "robustness")


def told(values: pd.Series, digits: int = 1, signed: bool = False) -> str:
    """Return "mean ± half width" as the page writes it; what is "behind" or "costs" has no sign."""
    values = values.dropna()
    mean = values.mean() if signed else abs(values.mean())
    return f"{mean:.{digits}f} ± {half_width(values):.{digits}f}".replace("-", "−")


def by_seed(rows: pd.DataFrame, *keys: str, column: str = "accuracy") -> pd.DataFrame:
    """Return percent, a row for each setting and a column for each seed."""
    return 100 * rows.groupby([*keys, "seed"])[column].mean().unstack("seed")


def last_five(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["round"] > rows["rounds"] - 5]


def lost(rows: pd.DataFrame) -> pd.Series:
    """Return the points lost on the test reviews, net."""
    return 100 * (rows["lost"] - rows["gained"]) / TEST_REVIEWS


@pytest.mark.parametrize("title", SECTIONS)
def test_the_figures_of_a_section_are_those_of_its_tables(title):
    words = " ".join(SECTIONS[title].split())
    expected = list(FIGURES[title]())
    assert [figure for figure in expected if figure not in words] == []
    assert words.count("±") == sum(figure.count("±") for figure in expected)


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_tells_four_numbers_with_their_errors_at_most(title):
    for part in re.split(r"^### ", SECTIONS[title], flags=re.MULTILINE):
        assert part.count("±") <= 4


@pytest.mark.parametrize("title", SECTIONS)
def test_a_section_says_what_how_where_and_by_which_command(title):
    text = SECTIONS[title]
    assert text.lstrip().partition("\n\n")[0].partition("?")[1]
    marks = re.findall(r"\*\*[^*]+\*\*", text)
    assert {"**How.**", "**What came out.**", "**Read in**", "**Files:**"} <= set(marks)
    files = re.findall(r"\]\((\w+)\.csv\)", text)
    studies = commands(text)
    assert set(studies) <= {*STUDIES, *SEARCHES}
    assert len(studies) == len(set(studies))
    assert set(studies) == set(files) & {*STUDIES, *SEARCHES}
    scripts = re.findall(r"^python (tests/\S+\.py)$", text, re.MULTILINE)
    others = set(files) - {*STUDIES, *SEARCHES}
    assert bool(scripts) == bool(others)
    written = "".join((ROOT / script).read_text("utf-8") for script in scripts)
    assert all(f"results/{name}.csv" in written for name in others)


def commands(text: str) -> list[str]:
    """Return the tables that a text's commands make: those of studies, and of searches."""
    lines = re.findall(r"^python -m fedlab_helpers studies (.*)$", text, re.MULTILINE)
    named = [line.split() for line in lines]
    searched = [f"search_{name}" for first, *more in named if first == "search" for name in more]
    return [name for names in named if names[0] != "search" for name in names] + searched


def test_every_table_has_its_section_and_its_line_in_the_contents():
    contents = re.findall(r"^\| \[(.+)\]\(#(.+)\) \| (.+) \| (.+) \|$", HEAD, re.MULTILINE)
    assert [title for title, *_ in contents] == list(SECTIONS)
    for title, anchor, names, read_in in contents:
        assert anchor == title.lower().replace(" ", "-")
        files = re.findall(r"\]\((\w+)\.csv\)", SECTIONS[title])
        assert re.findall(r"`(\w+)`", names) == files
        notebook = re.search(r"\*\*Read in\*\* (\[.+?\)|no notebook)", SECTIONS[title])[1]
        assert notebook == read_in.replace("here only", "no notebook")
    listed = [name for *_, names, _ in contents for name in re.findall(r"`(\w+)`", names)]
    assert sorted(listed) == sorted(TABLES)


def test_links_point_at_files():
    """JupyterLab's preview opens no folder."""
    assert broken_links(PAGE, RESULTS) == []
    assert [link for link in local_links(PAGE) if not (RESULTS / link).is_file()] == []


def test_what_the_error_is_is_said_once():
    assert PAGE.count("**±** is half of the") == 1
    factors = [half_width([0.0] * (n - 1) + [1.0]) * n for n in (3, 5, 6)]  # a standard error: 1/n
    said = "4.3 of these, with five 2.8, with six 2.6"
    assert re.findall(r"\d\.\d", said) == [f"{factor:.1f}" for factor in factors]
    assert said in " ".join(HEAD.split())


@section("Long memories")
def _() -> Iterator[str]:
    runs, by = table("long_memory"), ["cell", "length", "lr"]
    merit = runs.groupby(by)["validation_accuracy"].mean()
    best = merit.groupby(["cell", "length"]).idxmax().tolist()
    wide = by_seed(runs, *by).loc[best].droplevel("lr")
    means = wide.mean(axis=1)
    assert round(means["gru", 40]) == round(means["lstm_open", 40]) == 100
    yield f"name 100%, a plain LSTM {means['lstm', 40]:.0f}%"
    behind = (wide.loc[("rnn", 20)] - wide.loc[("lstm", 20)]).dropna()
    yield f"is {behind.mean():.0f} ± {half_width(behind):.0f} points behind"
    reach = table("reach").pivot(index=["cell", "seed"], columns="step", values="reach")
    grown = (reach[100] > reach[0]).groupby("cell").sum()
    assert grown[["rnn", "gru", "lstm"]].tolist() == [3, 3, 0]


@section("Open forget gates")
def _() -> Iterator[str]:
    wide = by_seed(table("open_gates"), "pooling", "bias")
    gains = {
        (kind, bias): told(wide.loc[(kind, bias)] - wide.loc[(kind, 0)], signed=True)
        for kind in ("last", "mean")
        for bias in (1, 2)
    }
    yield f"by {gains['last', 1]} points and a bias of 2 by {gains['last', 2]}; read"
    yield f"at the mean by {gains['mean', 1]} and {gains['mean', 2]}."


@section("All data in one place")
def _() -> Iterator[str]:
    wide = by_seed(table("baselines"), "model").T
    tfidf, lstm = wide["tfidf"].mean(), wide["lstm"]
    yield f"TF-IDF has {tfidf:.1f}%; the LSTM is {told(tfidf - lstm)} points behind it"
    yield f"and {told(lstm - wide['rnn'])} ahead of the plain"
    yield f"the LSTM's lead of {told(lstm - wide['bag'])} over"
    yield f"the GRU's lead of {told(wide['gru'] - lstm)} over"


@section("Local epochs and rows")
def _() -> Iterator[str]:
    how = ("partition", "strategy", "epochs", "batch_size", "cohort")
    wide = by_seed(last_five(table("local_training")), *how).xs(
        (32, 10), level=("batch_size", "cohort")
    )
    one, two, five = (wide.loc["iid", "fedavg", epochs] for epochs in (1, 2, 5))
    yield f"{told(two - one)} points ahead of one, five are {told(two - five)} behind two"
    rows = {
        deal: told(wide.loc[deal, "rowwise", 2] - wide.loc[deal, "fedavg", 2])
        for deal in ("iid", "by_domain")
    }
    yield f"bring {rows['iid']} points at random, and {rows['by_domain']} by domain"


@section("Rounds to a target")
def _() -> Iterator[str]:
    runs = table("local_work").fillna({"batch_size": 0})
    assert runs["reached"].all()
    cells = runs.groupby(["partition", "epochs", "batch_size"])
    needed = (
        cells["rounds"]
        .agg(["mean", half_width])
        .apply("{0[mean]:.0f} ± {0[half_width]:.0f}".format, axis=1)
    )
    bytes_ = cells["total_bytes"].mean() / 1e6
    yield f"{needed['iid', 1, 0]} rounds at random and {needed['by_domain', 1, 0]} by domain"
    yield f"need {needed['iid', 5, 8]} and {needed['by_domain', 5, 8]}."
    yield f"{bytes_['iid', 1, 0]:,.0f} MB become {bytes_['iid', 5, 8]:.0f} MB"


@section("Labels that differ")
def _() -> Iterator[str]:
    late = last_five(table("label_skew")).query("epochs == 1")
    wide, worst = by_seed(late, "alpha"), by_seed(late, "alpha", column="worst_client")
    mild, half, tenth, least = (told(wide.loc[a]) for a in (100, 0.5, 0.1, 0.03))
    yield f"has {mild}% at 100, {half}% at 0.5, {tenth}% at 0.1 and {least}% at 0.03."
    yield f"worst client sees {worst.loc[0.03].mean():.0f}%"


@section("Client drift")
def _() -> Iterator[str]:
    wide = by_seed(table("drift").query("epochs_done == 8"), "partition", "epochs", "reviews")

    def drift(deal: str, epochs: int) -> str:
        return told(wide.loc[deal, epochs, "mixed"] - wide.loc[deal, epochs, "own"])

    yield f"{drift('shards', 8)} points where they are averaged once"
    yield f"and {drift('shards', 1)} after each epoch"
    yield f"costs {drift('by_domain', 8)} and {drift('by_domain', 1)}."


@section("Strategies")
def _() -> Iterator[str]:
    study = pd.concat([table("aggregation"), table("aggregation_again")])
    central = study[study["strategy"] == "centralised"]
    tuned = table("aggregation_rates").query("strategy == 'centralised'")
    epoch = tuned.loc[tuned["validation_accuracy"].idxmax(), "round"]
    line = 100 * central[central["round"] == epoch].set_index("seed")["accuracy"]
    yield f"({line.mean():.1f}% over six seeds)"
    yield f"{study['strategy'].nunique() - 1} strategies"
    points = by_seed(last_five(study), "partition", "strategy")
    at_random, by_domain = points.loc["iid"], points.loc["by_domain"]
    yield f"at random ({told(at_random.loc['fedavg'] - line)} points from it)"
    yield f"by domain {told(line - by_domain.loc['fedavg'])} below it"
    more = [told(deal.loc["rowwise"] - deal.loc["fedavg"]) for deal in (at_random, by_domain)]
    yield f"brings {more[0]} points more at random and {more[1]} by domain"
    tenth = points.loc["dirichlet 0.1"]
    yield f"Dirichlet 0.1 FedAvg has {tenth.loc['fedavg'].mean():.0f}%"
    for name in ("fedadagrad", "calibrated_uniform_rowwise_2"):
        assert round((tenth.loc[name] - tenth.loc["fedavg"]).mean()) == 9
    plain = study[(study["partition"] == "dirichlet 0.1") & (study["strategy"] == "fedavg")]
    plain = plain.reset_index(drop=True)
    kept = plain.loc[plain.groupby("seed")["validation_accuracy"].idxmax(), "accuracy"]
    yield f"takes plain FedAvg to {kept.mean():.0%}"


@section("Slow clients")
def _() -> Iterator[str]:
    work = table("unequal_work").query("strategy == 'fedavg'")
    late = last_five(work)
    every, hotels = (by_seed(late, "late", column=c) for c in ("accuracy", "slow_accuracy"))

    def against_partial(wide: pd.DataFrame, late: str) -> str:
        return told(wide.loc[late] - wide.loc["partial work"])

    dropped, waited = (
        [against_partial(wide, late) for wide in (every, hotels)]
        for late in ("dropped", "waited for")
    )
    yield f"the slow costs {dropped[0]} points, and {dropped[1]} on hotel reviews"
    clock = work.groupby(["late", "seed"])["clock"].max().groupby("late").mean()
    times = clock["waited for"] / clock["partial work"]
    yield f"brings {waited[0]}, and {waited[1]} on hotel reviews, for {times:.1f} times the time"


@section("What to average")
def _() -> Iterator[str]:
    wide = by_seed(table("what_to_average"), "private")
    costs = {name: told(wide.loc["nothing"] - wide.loc[name]) for name in wide.index}
    yield f"forget gate costs {costs['forget gate']} points and a private head {costs['head']};"
    yield f"costs {costs['candidate']} and a private embedding {costs['embedding']}."
    drift = table("block_drift").query("round > 10 and partition != 'dirichlet'")
    cosines = drift.groupby(["partition", "block"])["cosine"].mean()
    yield f"no part has a mean cosine above {cosines.max():.2f}"


@section("Attacks")
def _() -> Iterator[str]:
    wide = by_seed(last_five(table("robustness")), "strategy", "attack")
    peace, signs = (wide.xs(name, level="attack") for name in ("none", "sign"))
    lost = [told(peace.loc[name] - signs.loc[name]) for name in ("fedavg", "multi_krum")]
    yield f"cost FedAvg {lost[0]} points, and Multi-Krum {lost[1]}."
    price = [told(peace.loc["fedavg"] - peace.loc[name]) for name in ("multi_krum", "krum")]
    yield f"Multi-Krum costs {price[0]} against FedAvg, and Krum {price[1]}."


@section("A model for each client")
def _() -> Iterator[str]:
    last = table("personalization").query("moment == 'last'")
    gains = by_seed(last, "partition", "method", column="gain")
    best = gains.mean(axis=1).groupby("partition").max()
    in_words, in_shares = gains.loc["by_domain", "ifca_mixed"], gains.loc["dirichlet"]
    assert in_words.mean() == best["by_domain"]
    yield f"the best gains {told(in_words)} points (clusters"
    sent = last.query("partition == 'by_domain'").groupby("method")["total_bytes"].mean()
    assert round(sent["ifca_mixed"] / sent["shared"], 1) == 3
    yield f"up to {best['dirichlet']:.1f}, of which {in_shares.loc['leaning'].mean():.1f} are"
    assert not any(
        abs(more.mean()) > half_width(more)
        for name, gain in in_shares.iterrows()
        if (more := gain - in_shares.loc["leaning"]).mean() > 0
    )
    first, second = gains.loc["strictness"], gains.loc["two_desks"]
    yield f"gains {told(first.loc['fedper'])} points, and"
    yield f"fine-tuning afterwards {told(first.loc['tune'])}; by"
    yield f"a head gains {told(second.loc['fedper'])}."


@section("Sending less")
def _() -> Iterator[str]:
    every, keys = table("compression"), ["partition", "downlink", "codec", "seed"]
    late = every[every["round"] > 15].assign(points=lost)
    points = late.groupby(keys)["points"].mean().unstack("seed")
    last = every[every["round"] == 20].set_index(keys)
    up = (last["dense_bytes_up"] / last["bytes_up"]).groupby(keys[:3]).mean()
    both = 2 * last["dense_bytes_up"] / (last["bytes_up"] + last["bytes_down"])
    both = both.groupby(keys[:3]).mean()
    runs = [
        (up, "iid", "whole", "ternary, zstd"),
        (up, "iid", "whole", "top 10% sign, EF"),
        (up, "iid", "whole", "rank 2 in 4 bits, EF"),
        (up, "iid", "whole", "rank 1 in 4 bits, EF"),
        (up, "by_domain", "whole", "top 10% sign, EF"),
        (up, "by_domain", "whole", "rank 2 in 4 bits, EF"),
        (both, "iid", "top 10% sign of changes, known start", "top 10% sign, EF, momentum"),
        (both, "iid", "changes of rank 2", "top 10% sign, EF, momentum"),
    ]
    for factors, *run in runs:
        yield f"{factors[tuple(run)]:.0f} times for {told(points.loc[tuple(run)], 2)}"
    lossless = [up[deal, "whole", "touched rows"] for deal in ("iid", "by_domain")]
    yield f"divide by {lossless[0]:.2f}, by domain by {lossless[1]:.2f}"
    again = table("compression_again").query("round > 15").assign(points=lost)
    again = again.groupby(keys)["points"].mean().unstack("seed")
    up_again = ("ternary, zstd", "top 10% sign, EF", "rank 2 in 4 bits, EF", "rank 1 in 4 bits, EF")
    for deal in ("iid", "by_domain"):
        for codec in up_again:
            yield told(again.loc[deal, "whole", codec], 2)
    pair = "top 10% sign of changes, known start", "top 10% sign, EF, momentum"
    yield f"fresh seeds, {told(again.loc[('iid', *pair)], 2)}"
    of_sgd = table("compression_sgd").query("round > 15").assign(points=lost)
    of_sgd = of_sgd.groupby("seed")["points"].mean()
    of_adam = points.loc["iid", "whole", "top 1%, EF"]
    yield f"costs {told(of_sgd, 2)} points with clients under SGD"
    yield f"and {told(of_adam, 2)} under Adam"
    time = table("codec_time")
    shares = (time["codec_seconds"] / time["seconds"]).groupby(time["codec"]).median()
    name = "top 10% sign, EF, momentum"
    yield f"take {shares[name]:.0%} of a round at {up['iid', 'whole', name]:.0f} times"
    yield f"and {shares['rank 1, EF']:.0%} for low rank"


@section("Smaller models")
def _() -> Iterator[str]:
    yield f"{table('shrinking')['recipe'].nunique()} kinds of models"
    recipes = table("shrinking_again").assign(points=lost).groupby("recipe")
    sizes, speed = recipes["bytes"].mean(), table("model_speed").set_index("model")
    whole = speed["one_review_s"]["whole, PyTorch"]
    yield f"{100 * recipes['accuracy'].mean()['whole, PyTorch']:.1f}%, 3.1 MB"
    yield f"is {whole / speed['one_review_s']['whole']:.1f} times as fast in ONNX Runtime"
    for recipe in (
        "all words, rank 8, 16 units, 4 bits",
        "4000 words, rank 8, 16 units, 8 bits",
        "4000 words, rank 8, 16 units, 4 bits",
        "4000 words, 16 wide, 32 units, 8 bits",
    ):
        smaller = sizes["whole, PyTorch"] / sizes[recipe]
        faster = whole / speed["one_review_s"][recipe]
        points = told(recipes["points"].get_group(recipe), 2, signed=True)
        yield f"{smaller:.0f} times smaller, {faster:.1f} times as fast, {points} points"


@section("Clients with unlike models")
def _() -> Iterator[str]:
    rounds = table("federated_distillation")
    wide = by_seed(rounds[rounds["round"] > 3], "partition", "way")
    alone, exchange, averaged = (wide.loc["iid", w] for w in ("alone", "exchange", "averaged"))
    yield f"random {alone.mean():.1f}% alone, {exchange.mean():.1f}% with answers exchanged:"
    yield f"exchanged: {told(exchange - alone)} points more"
    sent = rounds.query("round == 8").groupby(["partition", "way"])["total_bytes"].mean()["iid"]
    more = sent["averaged"] / sent["exchange"]
    yield f"gives {averaged.mean():.1f}%, for {more:.0f} times the bytes"
    differ = wide.loc["dirichlet", "exchange"] - wide.loc["dirichlet", "alone"]
    yield f"the gain of {told(differ)} is not settled"


@section("What can be read")
def _() -> Iterator[str]:
    runs = table("leaks_sentences")
    first = runs.query("cell == 'lstm' and pooling == 'last'")
    plain = first[first["condition"] == "gradient"]
    exact = plain.pivot(index="round", columns="seed", values="exact")
    share = 100 * exact.mean(axis=1)
    yield f"reads {share[0]:.0f}% of the reviews word for word before training"
    yield f"{share[10]:.1f}% after ten rounds and {share[20]:.1f}% after twenty"
    assert runs["false_certificates"].sum() == 0
    count = (runs["certified"] * runs["attacks"]).sum()
    yield f"None of {round(count, -2):,.0f} certificates was wrong"
    later = first[first["round"] == 10].groupby("condition")
    share = 100 * later["exact"].mean()
    yield f"{share['float16']:.0f}% of reviews are still read"
    assert share[["8 bits", "adam, 1 step", "adam, 5 steps", "dropout 0.5", "mean of 10"]].max() < 3
    auc = later["word_auc"].mean()
    assert auc[["8 bits", "adam, 5 steps", "signs of 10%", "dropout 0.5"]].min() > 0.998
    yield f"With noise of 0.01 a word is told from others with an AUC of {auc['noise 1e-02']:.2f}"
    matched = table("leaks_matching").groupby(["attack", "round"])["rouge_l"].mean()
    yield f"a ROUGE-L of {matched['matching', 0]:.2f} and {matched['matching', 10]:.2f}"
    words = table("leaks_words")
    assert words["precision"].min() == 1
    after = words[words["round"] == 20]
    yield f"{100 * after['recall'].min():.1f}% of the words at least"
    clock = table("leaks_clock").groupby("round")["kendall"].mean()
    yield f"of {clock[0]:.3f} (Kendall) before training, of {clock[20]:.2f} after twenty rounds"


@section("Who was trained on")
def _() -> Iterator[str]:
    keys = ["reviews", "attack", "seed"]
    runs = table("leaks_membership").set_index(keys)["auc"].unstack("seed")
    for reviews in (12, 600):
        yield f"{told(runs.loc[reviews, 'words'], 3)}"
        yield f"{told(runs.loc[reviews, 'lira'], 2)}"
    assert runs.xs("loss", level="attack").mean(axis=1).max() < 0.65


@section("A planted secret")
def _() -> Iterator[str]:
    runs = table("leaks_canary")
    keys = ["task", "repeats", "round", "seed"]
    bits = runs.set_index(keys)[["local_exposure", "averaged_exposure"]].unstack("seed")
    own, mean = bits["local_exposure"], bits["averaged_exposure"]

    def learned(task: str) -> pd.Series:
        return mean.loc[task, 20, 8] - mean.loc[task, 0, 8]

    first = own.loc["next word", 20, 1], mean.loc["next word", 20, 1]
    yield f"gives away {first[0].mean():.1f} bits, the mean {told(first[0] - first[1])} fewer"
    yield f"gives away {told(learned('next word'))} more than without the secret"
    yield f"The classifier gives away {told(own.loc['sentiment', 20, 1])} bits after one round"
    yield f"its mean after eight {told(learned('sentiment'))} more than without"
    found = runs.query("repeats == 20").groupby("task")[["local_extracted", "averaged_extracted"]]
    (words, of_mean), classifier = found.sum().loc["next word"], found.sum().loc["sentiment"]
    assert of_mean == 0
    yield f"client's model in {words} of 24 rounds, with the mean in none"
    yield f"finds it in {classifier.iloc[0]} and in {classifier.iloc[1]} of 24 rounds"
    score = runs.groupby("task")["score"].mean()
    yield f"a recall@1 of {score['next word']:.0%}, an accuracy of {score['sentiment']:.0%}"


@section("What sums cost")
def _() -> Iterator[str]:
    runs = by_seed(table("secure_accuracy").fillna({"bits": 0}), "cohort", "bits")
    for cohort, bits in ((16, 16), (16, 8), (100, 16), (100, 8)):
        yield told(runs.loc[cohort, bits] - runs.loc[cohort, 0], signed=True)


@section("What noise costs")
def _() -> Iterator[str]:
    runs = by_seed(table("private").fillna({"epsilon": 99}), "world", "epsilon")
    many, few = runs.loc["1,000 clients"], runs.loc["200 clients"]
    yield f"{told(many.loc[99])} without noise, {told(many.loc[8])} at an ε of 8"
    yield f"{told(many.loc[2])} at 2"
    yield f"With 200 clients of 60 reviews it is {few.loc[8].mean():.1f}% at 8"
    public = runs.loc["1,000 clients, public words", 8]
    yield f"with a vocabulary of public text {public.mean():.1f}%"
    yield f"With word vectors of its own the model comes to {told(runs.loc['own vectors', 8])}"
    yield f"{runs.loc['noise of their own', 8].mean():.1f}%, the larger class always"
    yield f"for 100,000 clients {runs.loc['100,000 clients, simulated', 8].mean():.1f}%"


@section("Every single example")
def _() -> Iterator[str]:
    runs = by_seed(table("example_level").fillna({"epsilon": 99}), "epsilon")
    yield f"{told(runs.loc[99])} without noise"
    yield f"{told(runs.loc[8])} at 8 and {told(runs.loc[2])} at 2"


@section("The attacks again")
def _() -> Iterator[str]:
    runs = table("attacks_again").groupby(["attack", "protection"])["value"].mean()
    sentences, words = runs["sentences"], runs["words"]
    assert sentences[["mean of 10", "secure sum of 10", "noise at the server"]].max() == 0
    yield f"told with an AUC of {words['secure sum of 10']:.2f} in a sum of ten clients"
    yield f"of {words['noise at the server']:.2f} with noise"
    yield f"reads {100 * sentences['public words']:.0f}% of the reviews word for word"
    gates = runs["shut gates: words"]
    yield f"an AUC of {gates['secure sum of 10, model not bound']:.2f}"
    yield f"of {gates['secure sum of 10']:.2f} where masks hang on the model"


@section("Audits")
def _() -> Iterator[str]:
    runs = table("audits").query("model == 'public words' and claim == 8")
    low, high = (runs.groupby("mechanism")["epsilon"].agg(f) for f in ("min", "max"))
    yield f"between {low['as claimed']:.1f} and {high['as claimed']:.1f}"
    assert abs(low["as claimed"] / 8 - 1) < 0.25 > abs(high["as claimed"] / 8 - 1)
    yield f"at least {low['a tenth of the noise']:.0f} with a tenth of the noise"
    apart = low["each layer clipped"], low["each layer clipped, 60 canaries"]
    yield f"at least {apart[0]:.1f} by 1,000 canaries and {apart[1]:.1f} by 60"
    blind = ["not clipped, short canaries", "a small layer without noise", "the seed is public"]
    assert all((low[name], high[name]) == (low["as claimed"], high["as claimed"]) for name in blind)


def owners(rows: pd.DataFrame, task: str, way: str, column: str = "each") -> pd.DataFrame:
    """Return what each owner scored, a column each, and a row for each seed."""
    own = rows[(rows["task"] == task) & (rows["way"] == way)].set_index("seed")
    return own[column].str.split(expand=True).astype(float)


@section("Other sequences")
def _() -> Iterator[str]:
    runs = table("sequences")
    mean = runs.groupby(["task", "way"])["score"].mean()
    sugar = mean["glucose"].round(2)
    yield f"“as now” is {sugar['naive']} mg/dL off"
    yield f"federated averaging {sugar['federated']}, fine-tuned {sugar['fine-tuned']}"
    tuned, joint, alone = (owners(runs, "glucose", w).mean() for w in
                           ("fine-tuned", "federated", "alone"))  # fmt: skip
    yield f"{told(joint - tuned)} better than federated averaging"
    yield f"{told(alone - tuned)} better than training alone"
    wind = mean["turbines"].round(1)
    yield f"trees {wind['trees']} kW off, fine-tuned networks {wind['fine-tuned']}"
    yield f"federated averaging {wind['federated']}, a power curve {wind['power curve']}"
    by = runs[runs["task"] == "credit"].pivot(index="seed", columns="way", values="score")
    yield f"trees {by['trees'].mean():.3f}, the federated network {by['federated'].mean():.3f}"
    yield f"{told(100 * (by['federated'] - by['alone']))} points above each bank's own network"
    yield f"{told(100 * (by['trees'] - by['federated']))} points below trees"
    words = runs[runs["task"] == "keyboard"].pivot(index="seed", columns="way", values="score")
    words, best = 100 * words, (100 * words.mean()).round(1)
    yield f"an LSTM in one place {best['centralised']}%, a trigram {best['trigram']}%"
    yield f"federated {best['federated']}%, fine-tuned {best['fine-tuned']}%"
    yield f"{told(words['federated'] - words['whole table'])} points more than with the whole table"
    yield f"{told(words['federated'] - words['row by row'])} points more than row by row"
    ward = mean["ward"].round(2)
    yield f"logistic regression {ward['linear']}, the federated network {ward['federated']}"
    yield f"a unit alone {ward['alone']}, the pressure now {ward['naive']}"
    thirds = [owners(runs, "keyboard", w, "each_second") for w in ("fine-tuned", "federated")]
    assert (thirds[0] > thirds[1]).all(axis=None)
    yield "helps 20 of 20 in each seed"


@section("Newcomers")
def _() -> Iterator[str]:
    runs = table("newcomers")
    people = runs[runs["task"] == "glucose"].groupby(["days", "way", "owner"])["rmse"].mean()
    others = people[0, "others' model"]
    yield f"{told(people[0, 'naive'] - others)} mg/dL better than “as now”"
    yield f"{told(people[1, 'alone'] - others)} better than training alone on one day"
    leak = people[1, "alone"] - people[1, "alone, chosen by later days"]
    yield f"looks {told(leak)} better than it is"
    park = runs[runs["task"] == "turbines"].groupby(["days", "way"])["rmse"].mean().round(0)
    yield f"{park[14, 'alone']:.0f} kW off, trees of its own {park[14, 'trees alone']:.0f}"
    yield f"fine-tuned {park[14, 'fine-tuned']:.0f}; with eight weeks {park[56, 'fine-tuned']:.0f}"
    yield f"with the whole year {park[365, 'fine-tuned']:.0f}"


@section("A promise to each patient")
def _() -> Iterator[str]:
    runs = table("private_patients").groupby("noise_multiplier")[["epsilon", "rmse"]].mean()
    yield f"{runs.loc[0.0, 'rmse']:.1f} mg/dL without noise"
    for noise in (0.3, 1.0, 3.0):
        yield f"{runs.loc[noise, 'rmse']:.1f} at an ε of {runs.loc[noise, 'epsilon']:.0f}"
    last = table("private_patients").query("noise_multiplier == 3")["rmse"]
    yield f"runs lie between {last.min():.1f} and {last.max():.1f}"


@section("Disturbed networks")
def _() -> Iterator[str]:
    runs = table("chaos")
    assert (runs["rounds_done"] == runs["rounds"]).all()
    assert runs["weights_equal"].all()
    assert runs["records_true"].all()
    assert (runs["left_over"] == 0).all()
    yield f"All {len(runs)} runs ended"
    yield f"{runs['resumed'].sum()} times a run was resumed"
    yield f"{runs['left_out'].sum()} of {(runs['rounds'] * 4).sum()} answers were left out"
    assert {*runs["kind"]} == {"fedavg", "scaffold", "signs", "secure sum", "changes"}


def which(name: str, times: int) -> pd.DataFrame:
    """Return the scores of the study of models, a column for each model and way, a row a seed."""
    rows = table(f"which_{name}").assign(score=lambda rows: times * rows["score"])
    return rows.pivot(index="seed", columns=["model", "way"], values="score")


@section("Which model")
def _() -> Iterator[str]:
    reviews, words, people = which("reviews", 100), which("words", 100), which("glucose", 1)
    tfidf, trigram, ridge = (
        data.xs("sums", axis=1, level="way").iloc[:, 0] for data in (reviews, words, people)
    )
    yield f"TF-IDF has {tfidf.mean():.1f}% whatever the deal"
    ahead = reviews.sub(tfidf, axis=0)
    yield f"the LSTM in one place {told(ahead['lstm', 'centralised'])} points more"
    for model, name in (("lstm", "LSTM"), ("gru", "GRU"), ("transformer", "Transformer")):
        yield f"the {name} {told(ahead[model, 'federated'])}"
    cost = table("which_reviews").groupby("model")["megabytes"].mean()
    yield f"{cost['tfidf']:.0f} MB until 80% on validation, the LSTM {cost['lstm']:.0f}"
    yield f"the trigram names {trigram.mean():.1f}%"
    yield f"the GRU {told(words.sub(trigram, axis=0)['gru', 'centralised'])} points more"
    yield f"federated {told(words.sub(trigram, axis=0)['gru', 'federated'])} fewer"
    yield f"the Transformer {told(words.sub(trigram, axis=0)['transformer', 'federated'])} fewer"
    yield f"The bag names {words['bag', 'federated'].mean():.1f}%"
    yield f"ridge regression is {ridge.mean():.2f} mg/dL off"
    for way, words_of in (("centralised", "in one place"), ("federated", "federated")):
        gain = ridge - people["gru", way]
        yield f"the GRU {words_of} {told(gain, 2)} better"
    gain = people["bag", "federated"] - people["gru", "federated"]
    yield f"{told(gain)} better than the bag"


@section("Noise and layers")
def _() -> Iterator[str]:
    rows = table("private_layers")
    settled = {}
    for task, own in rows.groupby("task"):
        scores = own.pivot(index="seed", columns="cell", values="test")
        ahead = (-1 if task == "glucose" else 100) * scores.sub(scores["lstm"], axis=0)
        settled[task] = {
            name for name in ahead if abs(ahead[name].mean()) > half_width(ahead[name])
        }
        assert all(ahead[name].mean() < 0 for name in settled[task])  # none is settled ahead
        if task == "reviews":
            yield f"the LSTM has {100 * scores['lstm'].mean():.1f}%"
            for cell, name in (("rnn", "RNN"), ("gru", "GRU"), ("bag", "bag")):
                yield f"{name} {told(ahead[cell])}"
        elif task == "words":
            yield f"behind the LSTM, {told(ahead['rnn'])} points"
    expected = {"reviews": {"rnn", "transformer", "bag"}, "words": {"rnn"}, "glucose": {"bag"}}
    assert settled == expected


@section("Designs under budgets")
def _() -> Iterator[str]:
    designs = table("reference_designs").replace({"epsilon": {"inf": math.inf}})
    scores = {
        name: rows.pivot(index="seed", columns="design", values="score")
        for name, rows in designs.groupby("brief")
    }
    kept = {
        (name, design)
        for (name, design), rows in designs.groupby(["brief", "design"])
        if all((rows[b].astype(float) <= limit).all() for b, limit in BRIEFS[name].limits.items())
    }
    words = 100 * scores["keyboard"]
    yield f"the plain design foresees {words['plain'].mean():.1f}%"
    yield f"the trigram {words['sums'].mean():.1f}%"
    yield f"By reflex, DP-FedAvg costs {told(words['plain'] - words['private'])} points"
    yield f"composed by hand is {told(words['composed'] - words['plain'])} ahead (not settled)"
    hotels = 100 * scores["hotels"]
    yield f"the median is {told(hotels['robust'] - hotels['plain'])} points behind"
    yield f"own epochs are {told(hotels['personal'] - hotels['plain'])} ahead"
    yield f"composed by hand {told(hotels['composed'] - hotels['plain'])}"
    people = scores["clinics"]
    yield f"own epochs are {told(people['plain'] - people['personal'], 2)} mg/dL better"
    yield f"DP-SGD {told(people['private'] - people['plain'], 2)} worse"
    yield f"{told(people['composed'] - people['plain'], 2)} worse (not settled)"
    park = scores["turbines"]
    yield f"Secure sums are {told(park['plain'] - park['hidden'])} kW better (not settled)"
    yield f"two own epochs {told(park['sums'] - park['composed'])} better than the power curve"
    lost = designs.query("brief == 'clinics' and design == 'composed'")["losing"]
    assert lost.between(0.45, 0.6).all()
    yield "about half of the patients do better alone"
    within = {"keyboard", "hotels", "turbines"}
    assert {name for name, design in kept if design == "composed"} == within
    assert {name for name, design in kept if design not in ("composed", "found")} == set()
    trials = pd.concat([table(name) for name in sorted(SEARCHES)])
    yield f"{len(trials)} trials in {trials['seconds'].sum() / 60:.0f} minutes"


@section("Engines")
def _() -> Iterator[str]:
    again = table("engines_again")
    yield from lines_of_engines(table("engines"))
    yield from lines_of_engines(again)
    seconds = again.groupby(["clients", "engine"])["seconds_a_round"]
    few, many = (seconds.agg(["min", "max"]).loc[clients] for clients in (20, 500))
    assert few.loc["here_dense", "min"] < few.loc["pfl_own", "max"]  # level: they overlap
    assert few.loc["pfl_own", "min"] < few.loc["here_dense", "max"]
    assert many.loc["pfl_own", "max"] < many.loc["here_dense", "min"]
    yield "level with pfl for 20 clients, and behind it for 500"


def lines_of_engines(measured: pd.DataFrame) -> Iterator[str]:
    runs = measured.groupby(["engine", "clients"])
    seconds = runs["seconds_a_round"].agg(["median", "min", "max"])
    names = {
        "here": "this package, two threads",
        "here_dense": "this package, training the whole table",
        "flower_nodes": "Flower's simulation, this package's apps",
        "flower_own": "Flower's simulation, its own FedAvg",
        "pfl_own": "pfl, two processes",
    }
    for engine, name in names.items():
        if engine not in set(measured["engine"]):
            continue
        cells = [
            "{:.2f} s ({:.2f} to {:.2f})".format(*seconds.loc[engine, clients])
            + f" | {runs['peak_mib'].max()[engine, clients]:,.0f} MiB"
            for clients in (20, 500)
        ]
        yield f"| {name} | {cells[0]} | {cells[1]} |"


@section("What a round costs")
def _() -> Iterator[str]:
    speed = table("round_speed")
    ratios = (speed["federated_s"] / speed["plain_s"]).groupby(speed["case"]).median()
    yield f"{ratios['20 x 320']:.2f} times as long"
    yield f"{ratios['500 x 28']:.2f} times for 500 clients"
    memory = table("round_memory").groupby("clients")["peak_growth_mib"].median()
    yield f"by {memory[50]:.0f} MiB over the rounds with 50 clients, and by {memory[1000]:.0f} MiB"


@section("How the cost grows")
def _() -> Iterator[str]:
    costs = table("growth").set_index(["reviews_a_client", "clients", "words"])
    many, more = costs.loc["12 to 28"].droplevel("words"), costs.loc["320"].loc[20]
    seconds, peak = many["seconds_a_round"], many["peak_mib"]
    yield f"took {seconds[100_000] / seconds[1_000]:.2f} times as long as one of 100 of 1,000"
    yield f"peaked at {peak[100_000]:.0f} MiB in place of {peak[1_000]:.0f}"
    yield f"100,000 clients went by {many['startup_s'][100_000]:.1f} s."
    few, most = more.iloc[0], more.loc[1_000_000]
    times = most["seconds_a_round"] / few["seconds_a_round"]
    yield f"took {times:.2f} times as long as with {more.index[0]:,}"
    size = most["table_mib"]
    yield f"peaked at {most['peak_mib'] / size:.1f} times the size of the table, {size:.0f} MiB"


@section("The loop of an article")
def _() -> Iterator[str]:
    races = table("article_loop").query("3 < round <= 8")
    wide = by_seed(races, "partition", "loop", "epochs")
    tuned = table("article_loop_epochs").set_index(["partition", "loop", "epochs"])["merit"]
    chosen = tuned.groupby(["partition", "loop"]).idxmax().str[2]

    def ahead(deal: str, loop: str) -> pd.Series:
        best = wide.loc[deal, "fedavg", chosen[deal, "fedavg"]]
        return wide.loc[deal, loop, chosen[deal, loop]] - best

    yield f"is {told(ahead('iid', 'own_adam'))} points ahead of FedAvg, and the printed loop"
    yield f"the printed loop {told(ahead('iid', 'printed'))}."
    blocks = [told(ahead("one_label_in_blocks", loop)) for loop in ("printed", "own_adam")]
    yield f"is {blocks[0]} behind it, and the other {blocks[1]}."
