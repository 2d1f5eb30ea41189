"""The controls of a federated run: every setting of `lab.Setup`, described in words."""

from collections.abc import Callable, Iterable

import ipywidgets

from fedlab_helpers.lessons.panels.lab import LOCAL, Setup
from fedlab_helpers.lessons.panels.parts import named, powers
from fedlab_helpers.lessons.words import text
from fedlab_helpers.strategies.attacks import STRENGTHS
from fedlab_helpers.strategies.registry import STRATEGIES, Parameter
from fedlab_helpers.tasks.reviews.task import DEALS

_LOOK = {
    "style": {"description_width": "12em"},
    "layout": ipywidgets.Layout(width="31em"),
}


class SettingsForm(ipywidgets.HBox):
    """Two columns of controls, each named like its setting; `setup` is what they say together."""

    def __init__(self):
        start = Setup()
        self.strategy = _choice("strategy", STRATEGIES, start.strategy)
        self.parameters: dict[str, ipywidgets.Widget] = {}
        self.server_rate = _powers("server_rate", 1.0, 1e-3, 10)
        self.optimizer = _choice("optimizer", LOCAL, start.optimizer)
        self.lr = _powers("lr", start.lr, 1e-4, 10)
        self.epochs = _slider("epochs", start.epochs, 1, 10)
        self.rounds = _slider("rounds", start.rounds, 1, 100)
        self.seed = _slider("seed", start.seed, 0, 99)
        self.partition = _choice("partition", DEALS, start.partition)
        self.alpha = _powers("alpha", start.alpha, 1e-2, 1e2)
        self.clients = _slider("clients", start.clients, 1, 200)
        self.cohort = _slider("cohort", start.cohort, 1, 50)
        self.attackers = _slider("attackers", start.attackers, 0, 0.5, ".0%")
        self.attack = _choice("attack", STRENGTHS, "sign")
        self._own = ipywidgets.VBox()
        self._changed = lambda: None
        left = [self.strategy, self._own, self.server_rate, self.optimizer, self.lr, self.epochs]
        right = [self.partition, self.alpha, self.clients, self.cohort, self.attackers, self.attack]
        columns = [[*left, self.rounds], [*right, self.seed]]
        super().__init__([ipywidgets.VBox(column) for column in columns])
        self._swap_parameters()
        self.strategy.observe(self._swap_parameters, "value")
        self.optimizer.observe(self._reset_rate, "value")
        for control in (*left, *right, self.rounds, self.seed):
            if control is not self._own:
                control.observe(self._follow, "value")
        self._follow()

    @property
    def setup(self) -> Setup:
        """The settings as the controls have them now."""
        return Setup(
            self.strategy.value,
            {name: _short(slider.value) for name, slider in self.parameters.items()},
            self.server_rate.value,
            self.optimizer.value,
            self.lr.value,
            self.epochs.value,
            self.partition.value,
            self.alpha.value,
            self.clients.value,
            self.cohort.value,
            _short(self.attackers.value),
            self.attack.value,
            self.rounds.value,
            self.seed.value,
        )

    def on_change(self, act: Callable[[], None]) -> None:
        """Call `act` now, and after each change."""
        self._changed = act
        act()

    def _swap_parameters(self, change: object = None) -> None:
        """Show the sliders of the chosen strategy, each where it is worth beginning."""
        offer = STRATEGIES[self.strategy.value]
        self.parameters = {p.name: _own_slider(p) for p in offer.parameters}
        for slider in self.parameters.values():
            slider.observe(self._follow, "value")
        none = ipywidgets.Label(text("no_parameters"))
        self._own.children = tuple(self.parameters.values()) or (none,)
        self.server_rate.value = offer.server_rate or 1.0

    def _reset_rate(self, change: object = None) -> None:
        """Begin at the rate of the chosen optimiser: theirs are of different sizes."""
        self.lr.value = LOCAL[self.optimizer.value].lr

    def _follow(self, change: object = None) -> None:
        """Switch off what does not apply, and say so."""
        applies = {
            "server_rate": STRATEGIES[self.strategy.value].server_rate is not None,
            "alpha": DEALS[self.partition.value].uses_alpha,
            "attack": self.attackers.value > 0,
        }
        for name, used in applies.items():
            control = getattr(self, name)
            control.disabled = not used
            control.description = text(name) if used else text("unused", control=text(name))
        self._changed()


def _choice(name: str, values: Iterable[str], value: str) -> ipywidgets.Dropdown:
    options = [(text(key), key) for key in values]
    control = ipywidgets.Dropdown(options=options, value=value, description=text(name), **_LOOK)
    return named(name, control)


def _slider(name: str, default: float, low: float, high: float, form: str = ".2f"):
    """Return a slider over whole numbers, or over numbers."""
    options = {"min": low, "max": high, "description": text(name), **_LOOK}
    if isinstance(default, int):
        return named(name, ipywidgets.IntSlider(default, **options))
    step = 0.05 if high <= 1 else 0.1
    return named(name, ipywidgets.FloatSlider(default, step=step, readout_format=form, **options))


def _powers(name: str, default: float, low: float, high: float) -> ipywidgets.SelectionSlider:
    return named(name, powers(default, low, high, description=text(name), **_LOOK))


def _own_slider(parameter: Parameter) -> ipywidgets.Widget:
    kind = _powers if parameter.log else _slider
    slider = kind(f"parameter_{parameter.name}", parameter.default, parameter.low, parameter.high)
    slider.description = text("parameter", name=parameter.name)
    return slider


def _short(value: float) -> float:
    """Return what a slider shows: 0.15 rather than 0.15000000000000002; a count as it is."""
    return value if isinstance(value, int) else float(f"{value:.6g}")
