"""The controls of a federated run: settings of a `Recipe`, described in words."""

from collections.abc import Callable

import ipywidgets

from fedlab_helpers.lessons.panels.parts import choice, powers, slider
from fedlab_helpers.lessons.words import say
from fedlab_helpers.recipe import LOCAL, STRATEGIES, Recipe
from fedlab_helpers.strategies.attacks import STRENGTHS
from fedlab_helpers.strategies.registry import Parameter
from fedlab_helpers.tasks.reviews.task import DEALS

_SETTINGS = (  # in the order in which they stand: two columns
    "strategy", "server_rate", "optimizer", "lr", "epochs", "rounds",
    "partition", "alpha", "clients", "cohort", "attackers", "attack", "seed",
)  # fmt: skip


class SettingsForm(ipywidgets.HBox):
    """Two columns of controls, each named like its setting; `recipe` is what they say together."""

    def __init__(self):
        start = Recipe()
        self.strategy = choice("strategy", STRATEGIES, start.strategy)
        self.parameters: dict[str, ipywidgets.Widget] = {}
        self.server_rate = powers("server_rate", 1.0, 1e-3, 10)
        self.optimizer = choice("optimizer", LOCAL, start.optimizer)
        self.lr = powers("lr", start.lr, 1e-4, 10)
        self.epochs = slider("epochs", start.epochs, 1, 10)
        self.rounds = slider("rounds", start.rounds, 1, 100)
        self.seed = slider("seed", start.seed, 0, 99)
        self.partition = choice("partition", DEALS, start.partition)
        self.alpha = powers("alpha", start.alpha, 1e-2, 1e2)
        self.clients = slider("clients", start.clients, 1, 200)
        self.cohort = slider("cohort", start.cohort, 1, 50)
        self.attackers = slider("attackers", start.attackers, 0, 0.5, ".0%")
        self.attack = choice("attack", STRENGTHS, "sign")
        self._own = ipywidgets.VBox()
        self._changed = lambda: None
        controls = [getattr(self, name) for name in _SETTINGS]
        left, right = [controls[0], self._own, *controls[1:6]], controls[6:]
        super().__init__([ipywidgets.VBox(left), ipywidgets.VBox(right)])
        self._swap_parameters()
        self.strategy.observe(self._swap_parameters, "value")
        self.optimizer.observe(self._reset_rate, "value")
        for control in controls:
            control.observe(self._follow, "value")
        self._follow()

    @property
    def recipe(self) -> Recipe:
        """The settings as the controls have them now."""
        own = {name: _short(control.value) for name, control in self.parameters.items()}
        rest = {name: _short(getattr(self, name).value) for name in _SETTINGS}
        return Recipe(parameters=own, **rest)

    def on_change(self, act: Callable[[], None]) -> None:
        """Call `act` now, and after each change."""
        self._changed = act
        act()

    def _swap_parameters(self, change: object = None) -> None:
        """Show the sliders of the chosen strategy, each where it is worth beginning."""
        entry = STRATEGIES[self.strategy.value]
        self.parameters = {p.name: _own_slider(p) for p in entry.parameters}
        for control in self.parameters.values():
            control.observe(self._follow, "value")
        none = ipywidgets.Label(say("no_parameters"))
        self._own.children = tuple(self.parameters.values()) or (none,)
        self.server_rate.value = entry.server_rate or 1.0

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
            control.description = say(name) if used else say("unused", control=say(name))
        self._changed()


def _own_slider(parameter: Parameter) -> ipywidgets.Widget:
    kind = powers if parameter.log else slider
    made = kind(f"parameter_{parameter.name}", parameter.default, parameter.low, parameter.high)
    made.description = say("parameter", name=parameter.name)
    return made


def _short(value: float | str) -> float | str:
    """Return what a slider shows: 0.15 rather than 0.15000000000000002; a count as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
