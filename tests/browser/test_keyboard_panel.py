"""The keyboard's panel as a reader drives it, by clicks and by keys, over models just trained."""

import time

import pytest
from conftest import choose, faults, picture, says

pytestmark = pytest.mark.browser
SCREENS = (1300, "Light"), (1300, "Dark"), (700, "Dark"), (700, "Light")
CELL = """
import copy
from fedlab_helpers import LocalConfig, load_task
from fedlab_helpers.core.training import train
from fedlab_helpers.lessons.panels import KeyboardPanel
from fedlab_helpers.shrinking import Suggestions
from fedlab_helpers.shrinking.onnx_model import sealed, to_onnx
from fedlab_helpers.tasks.next_word import WORDS, TiedLSTM, keyboards

task = load_task()
owners = {owner.name.split()[0]: owner for owner in keyboards(task)}
shared = TiedLSTM(WORDS, 32, seed=0)
for _ in range(4):
    for owner in owners.values():
        train(shared, owner.train, LocalConfig(epochs=1, lr=0.01), seed=0)
models = {"global": shared}
for domain, name in {"hotel": "a hotel guest's own", "book": "a book reader's own"}.items():
    own = models[name] = copy.deepcopy(shared)
    train(own, owners[domain].train, LocalConfig(epochs=6, lr=0.005), seed=0)
words = task.vocab.first(WORDS)
KeyboardPanel({name: Suggestions(sealed(to_onnx(model.eval(), words, bits=8)))
               for name, model in models.items()})
"""


def typed(page) -> list[str]:
    return page.locator(".fl-typed [lang]").all_inner_texts()


def waits(page, count: int) -> None:
    """Wait until so many words are typed."""
    now = "n => document.querySelectorAll('.fl-typed [lang]').length === n"
    page.wait_for_function(now, arg=count, timeout=10_000)


def test_words_are_typed_by_clicks_and_keys_and_all_fits(open_panel, page):
    page.set_viewport_size({"width": 1300, "height": 1000})
    open_panel("keyboard.ipynb", source=CELL)
    assert typed(page) == ["酒店"]
    assert page.locator(".fl-typed small").all_inner_texts() == ["hotel"]
    assert page.locator(".jp-OutputArea-output img:visible").count() == 0  # the still picture
    first = page.locator(".fl-proposed").first
    word = first.inner_text().split()[0]
    began = time.monotonic()
    first.click()
    waits(page, 2)
    print(f"answered after {time.monotonic() - began:.2f} s")
    assert typed(page) == ["酒店", word]
    page.keyboard.press("Enter")  # the focus is still on that key
    waits(page, 3)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    waits(page, 4)
    picture(page, "keyboard_typed")

    page.locator(".fl-clear").click()
    waits(page, 0)
    says(page, "^Press a key below")
    assert page.locator(".fl-proposed:visible").count() == 0
    choose(page, "hand", "a book reader's own")
    for count in (1, 2, 3):
        page.locator(".fl-by-chance").click()
        waits(page, count)
    page.locator(".fl-take-back").click()
    waits(page, 2)
    page.locator(".fl-try-reader").click()
    waits(page, 15)
    says(page, "Does the same keyboard win")
    page.locator(".fl-typing").first.click()
    says(page, "Of the 11 words after the first, foreseen were: global ")
    page.locator(".fl-try-guest").click()
    waits(page, 16)
    for width, theme in SCREENS:
        page.set_viewport_size({"width": width, "height": 1300})
        change = f"'apputils:change-theme', {{theme: 'JupyterLab {theme}'}}"
        page.evaluate(f"jupyterapp.commands.execute({change})")
        page.wait_for_timeout(1500)
        assert faults(page) == []
        picture(page, f"keyboard_{width}_{theme.lower()}")
