"""What a design came to, as a page that can be handed to somebody."""

import base64
import datetime
import itertools
import math
from html import escape
from pathlib import Path

import pandas as pd

from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.words import ENGLISH, say
from fedlab_helpers.studies import results
from fedlab_helpers.studies.briefs import brief_of
from fedlab_helpers.studies.design import SUMS, Design, Line, Outcome

_FORMS = {"recall@1": "{:.1%}", "accuracy": "{:.1%}", "rmse": "{:.2f}"}
_LOOK = (
    "body{font-family:sans-serif;max-width:46em;margin:2em auto;padding:0 1em;line-height:1.45}"
    "table{border-collapse:collapse;margin:.6em 0}"
    "td,th{padding:.2em .8em .2em 0;text-align:left;border-bottom:1px solid #bbb}"
    "img{max-width:100%}"
)


def reference_table(brief: str, score: str = "score") -> pd.DataFrame:
    """Return the reference designs of a brief, the best first.

    Columns: "name", "mean", "half" (of a 95% interval; NaN of one run), "low" and "high" over so
    many "runs"; "gain" over the plain design, seed by seed, above 0 where it is better, and
    "gain_half"; "losing", the mean share of clients that do; "within" (all budgets, with every
    seed) and "missed" (with any).

    Args:
        score: "score", on validation, or "exam".
    """
    limits, up = brief_of(brief).limits, brief_of(brief).higher_is_better
    table, rows = pd.read_csv(results.RESULTS / "reference_designs.csv"), []
    table = table[table["brief"] == brief]
    plain = table[table["design"] == "plain"].set_index("seed")[score]
    for name, own in table.groupby("design", sort=False):
        values = own.set_index("seed")[score]
        gains = (values - plain) if up else (plain - values)
        missed = [budget for budget, limit in limits.items() if (own[budget] > limit).any()]
        figures = {"mean": values.mean(), "half": _half_width(values)}
        figures["losing"] = own["losing"].mean()
        figures |= {"gain": gains.mean(), "gain_half": _half_width(gains)}
        ends = {"low": values.min(), "high": values.max(), "runs": len(values)}
        rows.append({"name": name, **figures, **ends, "within": not missed, "missed": missed})
    columns = "name mean half losing gain gain_half low high runs within missed".split()
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values("mean", ascending=not up, ignore_index=True)


def _half_width(values: pd.Series) -> float:
    known = len(values) > 1 and values.notna().all()
    return results.half_width([*values]) if known else math.nan


def shares(lines: list[Line]) -> dict[str, float]:
    """Return which share of each budget is used; of one of nothing, 0 where nothing is used."""
    none = {line.budget: math.inf if line.got else 0.0 for line in lines}
    return {n.budget: n.got / n.limit if n.limit else none[n.budget] for n in lines}


class Report:
    """What a design came to: which budgets it keeps, its score, and where it stands among others.

    It shows itself in a notebook; `save` writes it as one HTML file with its figures inside.

    Args:
        outcome: what `measure` returned.
        tried: how many designs were run for this brief until then, this one included.
        exam: what the exam said of this design; None: it was not asked.
        before: what the exam had said of another one, before this one was made.
    """

    def __init__(
        self,
        outcome: Outcome,
        tried: int = 1,
        exam: float | None = None,
        before: float | None = None,
    ):
        self.outcome, self.tried, self.exam, self.before = outcome, tried, exam, before

    def form(self, value: float) -> str:
        """Return a score as it is written, with its unit."""
        number = _FORMS.get(self.outcome.brief.measure, "{:.3g}").format(value)
        return say(f"unit_{self.outcome.brief.name}", score=number)

    @property
    def verdict(self) -> str:
        """One sentence on budgets and score."""
        lines, made = self.outcome.lines, self.outcome
        alone = sum(made.alone.values()) / len(made.alone)
        told = {"met": sum(line.met for line in lines), "all": len(lines)}
        return say("report_verdict", **told, score=self.form(made.score), alone=self.form(alone))

    def budgets(self) -> pd.DataFrame:
        """Return a row for each budget: at most, used, and whether it is met."""
        rows = [
            {
                say("report_budget"): say(f"budget_{line.budget}"),
                say("report_limit"): _written(line.budget, line.limit),
                say("report_used"): _written(line.budget, line.got),
                "": say("report_met" if line.met else "report_missed"),
            }
            for line in self.outcome.lines
        ]
        return pd.DataFrame(rows)

    def standing(self, score: str = "score") -> str:
        """Return which reference designs it is ahead of, level with, and behind.

        A difference is none within the 95% prediction interval of one more run, which for n runs is
        sqrt(n + 1) times as wide as the interval of their mean (`results.half_width`).
        """
        own = self.outcome.score if score == "score" else self.exam
        groups: dict[str, list[str]] = {"ahead": [], "level": [], "behind": [], "unknown": []}
        for row in reference_table(self.outcome.brief.name, score).itertuples():
            gain = (own - row.mean) if self.outcome.brief.higher_is_better else (row.mean - own)
            one_more = (row.runs + 1) ** 0.5 * row.half
            where = "level" if abs(gain) <= one_more else "ahead" if gain > 0 else "behind"
            where = "unknown" if math.isnan(one_more) else where
            groups[where].append(say(f"design_{row.name}") + ("" if row.within else "*"))
        said = [
            say(f"standing_{where}", names=", ".join(names))
            for where, names in groups.items()
            if names
        ]
        if not said:
            return say("standing_none")
        starred = any("*" in name for names in groups.values() for name in names)
        return " ".join([*said, *([say("standing_misses")] if starred else [])])

    def design(self) -> pd.DataFrame:
        """Return what was chosen, a row for each choice that is not the default."""
        usual, own = vars(Design(strategy=self.outcome.design.strategy)), vars(self.outcome.design)
        sums = self.outcome.design.cell == SUMS
        shown = ("cell",) if sums else ("cell", "size", "strategy", "rounds", "cohort")
        chosen = {n: v for n, v in own.items() if n in shown or v != usual[n]}
        if parameters := dict(chosen.get("parameters", ())):
            told = (f"{n.replace('_', ' ')} {v:g}" for n, v in parameters.items())
            chosen["parameters"] = ", ".join(told)
        chosen = {n: say(v) if isinstance(v, str) else v for n, v in chosen.items()}
        return pd.DataFrame({"": chosen.values()}, index=[_called(n) for n in chosen])

    def body(self) -> str:
        """Return the report as HTML, without the page around it."""
        made, name = self.outcome, self.outcome.brief.name
        label = say(f"score_{name}")
        order = plots.standing(reference_table(name), label, [made.score])
        parts = [
            f"<h2>{escape(say('report_title', customer=say(f'brief_{name}')))}</h2>",
            *_paragraphs(self.verdict),
            self.budgets().to_html(index=False, border=0),
            _image(plots.budgets(shares(made.lines)), say("budget_share")),
            f"<h3>{escape(say('report_standing'))}</h3>",
            *_paragraphs(self.standing()),
            _image(order, label),
            f"<h3>{escape(say('report_exam'))}</h3>",
            *_paragraphs(self._exam()),
            f"<h3>{escape(say('report_design'))}</h3>",
            self.design().to_html(header=False, border=0),
            *_paragraphs(self._small_print()),
        ]
        return "\n".join(parts)

    def _exam(self) -> str:
        if self.exam is None and self.before is not None:
            return say("exam_before", score=self.form(self.before))
        if self.exam is None:
            return say("exam_closed", tried=self.tried)
        said = say("exam_open", score=self.form(self.exam), tried=self.tried)
        return f"{said} {self.standing('exam')}"

    def _small_print(self) -> str:
        made = self.outcome
        versions = ", ".join(f"{name} {value}" for name, value in results.versions().items())
        down = f"{made.megabytes_down:.2f}"
        told = say("report_books", down=down, left_out=made.left_out, seed=made.seed)
        protects = made.brief.protects
        unit = say(f"report_unit_{protects}", delta=made.brief.delta) if protects else ""
        if protects and self.tried > 1:
            unit = f"{unit} {say('report_of_one', tried=self.tried)}"
        many = made.brief.stands_for
        if many > 1:
            unit = f"{unit} {say('report_stands_for', many=many)}"
        today = datetime.date.today().isoformat()
        return f"{told} {unit} {say('report_versions', versions=versions, date=today)}".strip()

    def page(self) -> str:
        """Return the report as one HTML page."""
        title = escape(say("report_title", customer=say(f"brief_{self.outcome.brief.name}")))
        head = f'<meta charset="utf-8"><title>{title}</title><style>{_LOOK}</style>'
        return (
            f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{self.body()}\n'
            "</body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the page, and return where. A file that is there stays: the new one is called
        `name_2.html`, or by the next number that is free. Raises OSError where nothing can be
        written."""
        path, page = Path(path).absolute(), self.page()
        others = (path.with_stem(f"{path.stem}_{number}") for number in itertools.count(2))
        for target in itertools.chain([path], others):
            try:
                with target.open("x", encoding="utf-8") as file:
                    file.write(page)
                return target
            except FileExistsError:
                continue
        raise AssertionError

    def _repr_html_(self) -> str:
        return self.body()

    def __repr__(self) -> str:
        return f"{self.verdict}\n{self.budgets().to_string(index=False)}\n{self.standing()}"


def _called(name: str) -> str:
    return say(f"choice_{name}") if f"choice_{name}" in ENGLISH else say(name)


def _written(budget: str, value: float) -> str:
    if budget == "seen":
        return say("seen_single" if value else "seen_sums")
    if value == float("inf"):
        return say("no_bound")
    return f"{value:.0%}" if budget == "losing" else f"{value:.3g}"


def _paragraphs(text: str) -> list[str]:
    return [f"<p>{escape(part)}</p>" for part in text.split("\n") if part]


def _image(picture: plots.Picture, told: str) -> str:
    data = base64.b64encode(picture.page()).decode()
    return f'<p><img alt="{escape(told)}" src="data:image/png;base64,{data}"></p>'
