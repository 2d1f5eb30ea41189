"""A brief, a design that a reader composes for it, and the report of what it came to."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import ipywidgets

from fedlab_helpers.compression.registry import KEEPS, LOSSLESS, feeds_back
from fedlab_helpers.core.require import require
from fedlab_helpers.core.training import Stopped
from fedlab_helpers.lessons import plots
from fedlab_helpers.lessons.interrupted import on_interrupt
from fedlab_helpers.lessons.panels.board import Board
from fedlab_helpers.lessons.panels.panel import Panel
from fedlab_helpers.lessons.panels.parts import (
    Form,
    box,
    button,
    choice,
    named,
    row,
    slider,
    steps,
)
from fedlab_helpers.lessons.report import Report, reference_table
from fedlab_helpers.lessons.words import say
from fedlab_helpers.strategies.registry import STRATEGIES
from fedlab_helpers.studies.briefs import BRIEFS, alone, owners_of
from fedlab_helpers.studies.design import DEVICE_FORMS, SUMS, Design, Outcome, measure, problem
from fedlab_helpers.studies.references import references
from fedlab_helpers.tasks.layers import LAYERS

GROUPS = {
    "brief_model": ("cell", "size"),
    "brief_training": ("optimizer", "lr", "epochs", "batch", "rounds", "cohort"),
    "brief_server": ("strategy", "server_rate", "clip", "noise_multiplier", "secure"),
    "brief_sent": ("keep", "amount", "write", "feedback"),
    "brief_device": ("tuning", "tuning_rate", "pruned", "device"),
}
_NUMBERS = ("clip", "noise_multiplier")  # of strategies that protect
_WRITES = ("float32", "float16", "bits8", "bits4", "signs")
_AMOUNTS = {
    **dict.fromkeys(("topk", "randomk", "sketch"), (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)),
    "lowrank": (1, 2, 4, 8),
}


@dataclass
class _Seen:
    """What is known of a brief while a kernel lives, whatever panel it was in."""

    tried: int = 0
    exam: float | None = None  # of the design that was examined
    design: Design | None = None


class BriefPanel(Panel):
    """Compose a design for a brief, run it, and read its report; open the exam once.

    The exam is that of a brief: another panel for it, too, finds it open.

    Args:
        brief: the customer, a name in `BRIEFS`.

    Raises ValueError: there is no such customer.
    """

    _seen: ClassVar[dict[str, _Seen]] = {}
    _stop = threading.Event()  # of a panel that could not be made, which python closes, too

    def __init__(self, brief: str = "keyboard"):
        require(brief in BRIEFS, "brief", brief, f"one of {sorted(BRIEFS)}")
        self.brief = BRIEFS[brief]
        self.outcomes: list[Outcome] = []
        self.seen = self._seen.setdefault(brief, _Seen())
        self._stop, self._thread, self._round = threading.Event(), None, 0
        self._busy, self._setting = False, False
        self.board = named("readout", Board())
        self.board.remove_class("fl-readout").add_class("fl-board-of-brief")
        self.shown = named("report", ipywidgets.HTML())
        self.form = Form(GROUPS, self._controls())
        self._make_buttons()
        self._lay_out()
        self.set(references(brief)["plain"])
        self._show_exam()
        self.board.tell(say("brief_ready"))
        self.form.on_change(self._follow)
        on_interrupt(self._stop.set)

    def _controls(self) -> dict[str, ipywidgets.Widget]:
        usual, clients = Design(), len(owners_of(self.brief.name, 0))
        percent = [(f"{share:.0%}", share) for share in (0.0, 0.3, 0.5, 0.6, 0.8, 0.9)]
        sizes = [(str(size), size) for size in (4, 8, 12, 16, 24, 32, 48, 64)]
        return {
            "cell": choice("cell", [*LAYERS, *([] if self.brief.attackers else [SUMS])], "gru"),
            "size": steps("size", sizes, usual.size),
            "optimizer": choice("optimizer", ("adam", "sgd"), usual.optimizer),
            "lr": self._powers("lr", 1e-3, 10),
            "epochs": slider("epochs", usual.epochs, 1, 5),
            "batch": steps("batch", [(str(b), b) for b in (8, 16, 32, 64)], usual.batch),
            "rounds": slider("rounds", usual.rounds, 1, 40),
            "cohort": slider("cohort", min(usual.cohort, clients), 2, clients),
            "strategy": choice("strategy", STRATEGIES, usual.strategy),
            "server_rate": self._powers("server_rate", 1e-2, 10),
            "clip": self._powers("clip", 1e-2, 10),
            "noise_multiplier": self._powers("noise_multiplier", 0.1, 10),
            "secure": box("secure", False),
            "keep": choice("keep", [*LOSSLESS, *KEEPS], usual.keep),
            "amount": self._amounts("topk"),
            "write": choice("write", _WRITES, "float32"),
            "feedback": box("feedback", False),
            "tuning": slider("tuning", 0, 0, 6),
            "tuning_rate": self._powers("tuning_rate", 1e-4, 1),
            "pruned": steps("pruned", percent, 0.0),
            "device": choice("device", DEVICE_FORMS, usual.device),
        }

    def _powers(self, name: str, low: float, high: float) -> ipywidgets.SelectionSlider:
        """Return a slider over powers of ten, and whatever a reference design has."""
        values = {digit * 10.0**e for e in range(-5, 3) for digit in (1, 2, 3, 5)}
        offered = {float(f"{v:.3g}") for v in values if low <= v <= high}
        for design in references(self.brief.name).values():
            own = vars(design) | dict(design.parameters)
            offered |= {own[name]} if own.get(name) else set()
        first = 1.0 if name in (*_NUMBERS, "server_rate") else getattr(Design(), name)
        return steps(name, [(f"{v:.3g}", v) for v in sorted(offered)], first)

    def _amounts(self, kind: str) -> ipywidgets.Widget:
        offered = [(f"{a:g}" if a >= 1 else f"{a:.0%}", a) for a in _AMOUNTS[kind]]
        return steps("amount", offered, KEEPS[kind].usual or offered[0][1])

    def _make_buttons(self) -> None:
        def act(name: str, press: Callable[[], None], **options: Any) -> ipywidgets.Button:
            return button(name, lambda _: press(), **options)

        self.run = act("brief_run", self._begin, button_style="primary", icon="play")
        self.stop = act("stop", self._stop.set, disabled=True, icon="stop")
        self.open_exam = act("brief_exam", self._open_exam, disabled=True, icon="lock")
        self.file = named(
            "file", ipywidgets.Text(f"{self.brief.name}.html", description=say("file"))
        )
        self.save = act("brief_save", self._save, icon="download")
        self.kept, self.note = (named(n, ipywidgets.HTML()) for n in ("kept", "note"))

    def _lay_out(self) -> None:
        starts = [
            button(f"design_{name}", lambda _, d=design: self.set(d))
            for name, design in references(self.brief.name).items()
            if name not in ("composed", "found")  # what a reader is to find
        ]
        about = named("brief", ipywidgets.HTML(_about(self.brief.name)))
        lead = ipywidgets.HTML(say("brief_start")).add_class("fl-heading")
        hint = ipywidgets.HTML(escape(say("re_run"))).add_class("fl-help")
        super().__init__(
            [
                about,
                row("tries", [lead, *starts]),
                self.form,
                row("buttons", [self.run, self.stop, self.open_exam]),
                self.note,
                self.board,
                self.shown,
                row("keep", [self.file, self.save, self.kept]),
                hint,
            ]
        )
        self.add_class("fl-lab")

    # The design

    @property
    def design(self) -> Design:
        """The design as the controls have it."""
        own = self.form.values
        if own["cell"] == SUMS:
            return Design(SUMS)
        entry = STRATEGIES[own["strategy"]]
        offered = {parameter.name for parameter in entry.parameters}
        numbers = {n: _short(own.pop(n)) for n in _NUMBERS}
        own["parameters"] = {n: value for n, value in numbers.items() if n in offered}
        if own["keep"] not in _AMOUNTS:
            own["amount"] = None
        own["feedback"] = own["feedback"] and feeds_back(own["keep"], own["write"])
        if entry.server_rate is None:
            own["server_rate"] = None
        return Design(**{name: _short(value) for name, value in own.items()})

    def set(self, design: Design) -> None:
        """Let the controls have a design. Raises TraitError for a value that they do not offer."""
        entry = STRATEGIES[design.strategy]
        values = {n: getattr(design, n) for n in self.form.controls if hasattr(design, n)}
        values |= {n: v for n, v in design.parameters if n in _NUMBERS}
        values["server_rate"] = design.server_rate or entry.server_rate
        if design.keep in _AMOUNTS:
            self._offer(design.keep)
        self._setting = True
        try:
            for name, value in values.items():
                if value is not None:
                    self.form.controls[name].value = value
        finally:
            self._setting = False
            self._follow()

    def _offer(self, kind: str) -> None:
        if [a for _, a in self.form.amount.options] != [*_AMOUNTS[kind]]:
            self.form.swap("amount", self._amounts(kind))

    def _follow(self) -> None:
        """Switch off what does not apply, and say what cannot be run."""
        if self._setting:
            return
        form, own = self.form, self.form.values
        entry, sums = STRATEGIES[own["strategy"]], own["cell"] == SUMS
        if own["keep"] in _AMOUNTS:
            self._offer(own["keep"])
        offered = {parameter.name for parameter in entry.parameters}
        lossless = own["keep"] in LOSSLESS
        off = {
            "server_rate": say("no_server_rate", strategy=say(entry.name))
            if entry.server_rate is None
            else "",
            **{n: "" if n in offered else say("brief_no_noise") for n in _NUMBERS},
            "amount": "" if own["keep"] in _AMOUNTS else say("brief_all_sent"),
            "write": say("brief_as_it_is") if lossless else "",
            "feedback": ""
            if not lossless and feeds_back(own["keep"], own["write"])
            else say("brief_no_feedback"),
            "tuning_rate": "" if own["tuning"] else say("brief_no_tuning"),
        }
        for name in form.controls:
            why = say("brief_sums_only") if sums and name != "cell" else off.get(name, "")
            form.explain(name, off=why, about=say(f"choice_{name}_help"))
        form.explain("strategy", off=say("brief_sums_only") if sums else "", about=entry.sentence)
        self._show_run()

    def _show_run(self) -> None:
        wrong = self._wrong()
        self.note.value = escape(wrong)
        self.run.disabled, self.stop.disabled = bool(wrong) or self._busy, not self._busy

    def _show_exam(self) -> None:
        opened = self.seen.exam is not None
        self.open_exam.disabled = opened or self._busy or not self.outcomes
        self.open_exam.icon = "unlock" if opened else "lock"
        self.open_exam.description = say("brief_exam_open" if opened else "brief_exam")

    def _wrong(self) -> str:
        try:
            design = self.design
        except ValueError as error:
            return str(error)
        return problem(self.brief.name, design) or ""

    # Runs

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the run is over, or for so long."""
        if self._thread:
            self._thread.join(seconds)

    def close(self) -> None:
        """End the run, and take the panel away."""
        self._stop.set()
        super().close()

    def _begin(self) -> None:
        if self._busy:
            return
        self._stop.clear()
        self._round, self._busy = 0, True
        self._show_run()
        self._show_exam()
        self._thread = threading.Thread(target=self._work, args=(self.design,), daemon=True)
        self._thread.start()

    def _work(self, design: Design) -> None:
        """Run a design, and show what it came to."""
        try:
            self.board.tell(say("brief_preparing"), "running")
            owners_of(self.brief.name, 0)
            alone(self.brief.name, 0)
            made = measure(self.brief.name, design, 0, self._stop, self._teller(design))
            self.seen.tried += 1
            self.outcomes.append(made)
            report = self._report_of(made)
            self.shown.value = report.body()
            self.board.tell(report.verdict)
        except Stopped:
            self.board.tell(say("brief_stopped", round=self._round, rounds=design.rounds))
        except Exception as error:
            self.board.tell(say("error", why=f"{type(error).__name__}: {error}"), "error")
        finally:
            self._busy = False
            self._show_run()
            self._show_exam()

    def _teller(self, design: Design) -> Callable[[int], None]:
        """Return what tells how far a run is."""
        began = time.monotonic()

        def told(number: int) -> None:
            self._round, done = number, number / (design.rounds + 1)
            left = (time.monotonic() - began) / done * (1 - done)
            said = say("brief_round", round=number, rounds=design.rounds)
            self.board.tell(said, "running", done=done, left=say("seconds_left", seconds=left))

        return told

    def _report_of(self, made: Outcome) -> Report:
        seen = self.seen
        examined = seen.exam is not None and seen.design == made.design
        exams = (seen.exam, None) if examined else (None, seen.exam)
        return Report(made, seen.tried, *exams)

    @property
    def report(self) -> Report:
        """The report of the latest design."""
        return self._report_of(self.outcomes[-1])

    def _open_exam(self) -> None:
        """Ask the latest design what nothing was chosen by; there is no second time."""
        if self._busy or not self.outcomes or self.seen.exam is not None:
            return
        made = self.outcomes[-1]
        self.seen.exam, self.seen.design = made.exam(), made.design
        self._show_exam()
        self.shown.value = self.report.body()
        self.board.tell(say("brief_examined", score=self.report.form(self.seen.exam)))

    def _save(self) -> None:
        """Write the report; a file that is there stays, and another name is taken."""
        self.kept.value = escape(self._saved())

    def _saved(self) -> str:
        asked = Path(self.file.value.strip())
        if not self.outcomes:
            return say("brief_nothing")
        if not asked.name:
            return say("no_file")
        if not asked.parent.is_dir():
            return say("no_folder", folder=asked.parent)
        try:
            written = self.report.save(asked)
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            return say("error", why=error)
        return say("brief_saved", file=asked.with_name(written.name))

    def _still(self) -> plots.Picture:
        name = self.brief.name
        return plots.standing(reference_table(name), say(f"score_{name}"))


def _about(name: str) -> str:
    """Return the brief as HTML."""
    brief = BRIEFS[name]
    told = [say(f"brief_{name}_about")]
    if brief.protects:
        told.append(say(f"report_unit_{brief.protects}", delta=brief.delta))
    if brief.stands_for > 1:
        told.append(say("report_stands_for", many=brief.stands_for))
    limits = "".join(
        f"<tr><td>{escape(say(f'budget_{budget}'))}</td><td>{_limit(budget, limit)}</td></tr>"
        for budget, limit in brief.limits.items()
    )
    title = escape(say("report_title", customer=say(f"brief_{name}")))
    return f"<h3>{title}</h3><p>{escape(' '.join(told))}</p><table>{limits}</table>"


def _limit(budget: str, limit: float) -> str:
    if budget == "seen":
        return say("seen_sums")
    written = f"{limit:.0%}" if budget == "losing" else f"{limit:g}"
    return say("at_most", limit=written)


def _short(value: Any) -> Any:
    """Return what a slider shows: 0.15 rather than 0.15000000000000002."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
