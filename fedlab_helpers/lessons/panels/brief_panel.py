"""A brief, a design that a reader composes for it, and the report of what it came to."""

import threading
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

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
    powers,
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
_REDRAW = 0.3  # seconds between two looks at how far it is


class BriefPanel(Panel):
    """Compose a design for a brief, run it, and read its report; open the exam once.

    Args:
        brief: the customer, a name in `BRIEFS`.

    Raises ValueError: there is no such customer.
    """

    _stop = threading.Event()  # of a panel that could not be made, which python closes, too

    def __init__(self, brief: str = "keyboard"):
        require(brief in BRIEFS, "brief", brief, f"one of {sorted(BRIEFS)}")
        self.brief = BRIEFS[brief]
        self.outcomes: list[Outcome] = []
        self.exam: float | None = None
        self._examined: Outcome | None = None
        self._stop, self._thread, self._round = threading.Event(), None, 0
        self.board = named("readout", Board())
        self.board.remove_class("fl-readout").add_class("fl-board-of-brief")
        self.shown = named("report", ipywidgets.HTML())
        self.form = Form(GROUPS, self._controls())
        self._make_buttons()
        self._lay_out()
        self.set(references(brief)["plain"])
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
            "lr": powers("lr", usual.lr, 1e-3, 10),
            "epochs": slider("epochs", usual.epochs, 1, 5),
            "batch": steps("batch", [(str(b), b) for b in (8, 16, 32, 64)], usual.batch),
            "rounds": slider("rounds", usual.rounds, 1, 40),
            "cohort": slider("cohort", min(usual.cohort, clients), 2, clients),
            "strategy": choice("strategy", STRATEGIES, usual.strategy),
            "server_rate": powers("server_rate", 1.0, 1e-2, 10),
            "clip": powers("clip", 1.0, 1e-2, 10),
            "noise_multiplier": powers("noise_multiplier", 1.0, 0.1, 10),
            "secure": box("secure", False),
            "keep": choice("keep", [*LOSSLESS, *KEEPS], usual.keep),
            "amount": self._amounts("topk"),
            "write": choice("write", _WRITES, "float32"),
            "feedback": box("feedback", False),
            "tuning": slider("tuning", 0, 0, 6),
            "tuning_rate": powers("tuning_rate", usual.tuning_rate, 1e-4, 1),
            "pruned": steps("pruned", percent, 0.0),
            "device": choice("device", DEVICE_FORMS, usual.device),
        }

    def _amounts(self, kind: str) -> ipywidgets.Widget:
        offered = [(f"{a:g}" if a >= 1 else f"{a:.0%}", a) for a in _AMOUNTS[kind]]
        return steps("amount", offered, KEEPS[kind].usual or offered[0][1])

    def _make_buttons(self) -> None:
        def act(name: str, press: Callable[[], None], **options: Any) -> ipywidgets.Button:
            return button(name, lambda _: press(), **options)

        self.run = act("brief_run", self._begin, button_style="primary", icon="play")
        self.stop = act("stop", self._stop_run, disabled=True, icon="stop")
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
            if name != "found"
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
        """Let the controls have a design; what they do not offer stays as it is in it not."""
        entry = STRATEGIES[design.strategy]
        values = {n: getattr(design, n) for n in self.form.controls if hasattr(design, n)}
        values |= {n: v for n, v in design.parameters if n in _NUMBERS}
        values["server_rate"] = design.server_rate or entry.server_rate
        if design.keep in _AMOUNTS:
            self._offer(design.keep)
        for name, value in values.items():
            if value is not None:
                self.form.controls[name].value = value

    def _offer(self, kind: str) -> None:
        if [a for _, a in self.form.amount.options] != [*_AMOUNTS[kind]]:
            self.form.swap("amount", self._amounts(kind))

    def _follow(self) -> None:
        """Switch off what does not apply, and say what cannot be run."""
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
        wrong = self._wrong()
        self.note.value = escape(wrong)
        self.run.disabled = bool(wrong) or self._busy

    def _wrong(self) -> str:
        try:
            design = self.design
        except ValueError as error:
            return str(error)
        return "" if design.cell == SUMS else problem(self.brief, design) or ""

    # Runs

    @property
    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the run is over, or for so long."""
        if self._thread:
            self._thread.join(seconds)

    def close(self) -> None:
        """End the run, and take the panel away."""
        self._stop.set()
        super().close()

    def _stop_run(self) -> None:
        self._stop.set()

    def _begin(self) -> None:
        if self._busy:
            return
        self._stop.clear()
        self._round = 0
        self.run.disabled, self.stop.disabled, self.open_exam.disabled = True, False, True
        self._thread = threading.Thread(target=self._work, args=(self.design,), daemon=True)
        self._thread.start()

    def _work(self, design: Design) -> None:
        """Run a design, and show what it came to."""
        began = time.monotonic()
        try:
            self.board.tell(say("brief_preparing"), "running")
            owners_of(self.brief.name, 0)
            alone(self.brief.name, 0)

            def told(number: int) -> None:
                self._round = number
                done = number / (design.rounds + 1)
                left = (time.monotonic() - began) / done * (1 - done)
                said = say("brief_round", round=number, rounds=design.rounds)
                self.board.tell(said, "running", done=done, left=say("seconds_left", seconds=left))

            began = time.monotonic()
            made = measure(self.brief, design, 0, self._stop, told)
            self.outcomes.append(made)
            self.shown.value = self.report.body()
            self.board.tell(self.report.verdict)
        except Stopped:
            self.board.tell(say("brief_stopped", round=self._round, rounds=design.rounds))
        except Exception as error:
            self.board.tell(say("error", why=f"{type(error).__name__}: {error}"), "error")
        finally:
            self.stop.disabled = True
            self.run.disabled = False
            self.open_exam.disabled = not self.outcomes or self.exam is not None

    @property
    def report(self) -> Report:
        """The report of the latest design; of the one that was examined, once the exam is open."""
        made = self.outcomes[-1]
        exam = self.exam if made is self._examined else None
        return Report(made, len(self.outcomes), exam)

    def _open_exam(self) -> None:
        """Ask the latest design what nothing was chosen by; there is no second time."""
        if self._busy or not self.outcomes or self.exam is not None:
            return
        self._examined = self.outcomes[-1]
        self.exam = self._examined.exam()
        self.open_exam.disabled = True
        self.open_exam.icon, self.open_exam.description = "unlock", say("brief_exam_open")
        self.shown.value = self.report.body()
        self.board.tell(say("brief_examined", score=self.report.form(self.exam)))

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
        except OSError as error:
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
