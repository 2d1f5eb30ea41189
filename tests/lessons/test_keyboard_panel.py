"""The panel of a keyboard: what is pressed is typed, and each keyboard proposes what follows."""

import time

import pytest

from fedlab_helpers.lessons.panels import KeyboardPanel
from fedlab_helpers.lessons.panels.keyboard_panel import BEGINNINGS, TEXTS
from fedlab_helpers.lessons.words import ENGLISH
from fedlab_helpers.shrinking import Suggestions
from fedlab_helpers.shrinking.onnx_model import sealed, to_onnx
from fedlab_helpers.studies.study import task
from fedlab_helpers.tasks.next_word import WORDS, TiedLSTM

AFTER = {  # the last word -> what the two keyboards propose
    "房间": ([("很", 0.5), ("大", 0.125), ("也", 0.004)], [("很", 0.25), ("小", 0.2), ("不", 0.1)]),
    "很": ([("大", 0.9)], [("小", 0.8), ("大", 0.1)]),
}


def made(which):
    """Return a keyboard that looks at the last word alone."""
    return lambda words, k: AFTER.get(words[-1], ([], []))[which][:k]


@pytest.fixture
def panel():
    return KeyboardPanel({"global": made(0), "own": made(1)}, ["房间", "，"])


def shown(panel, name):
    """Return the keys of a keyboard that can be seen, each as its lines."""
    keys = [key for key in panel.proposed[name] if key.layout.visibility == "visible"]
    return [tuple(key.description.split("\n")) for key in keys]


def counted(panel):
    return [panel.counts[name].value.split("foresaw ")[1] for name in panel.counts]


def test_it_opens_with_the_first_beginning_and_what_may_follow(panel):
    assert panel.typed == ("房间",)
    assert '<b lang="zh">房间</b><small>room</small>' in panel.text.value
    assert shown(panel, "global") == [
        ("很", "very", "50%"),
        ("大", "big", "12%"),
        ("也", "also", "<1%"),
    ]
    assert panel.readout == "Words and marks so far: 1. Which comes next?"
    assert counted(panel) == ["0 of 0", "0 of 0"]


def test_words_of_one_keyboard_alone_stand_out(panel):
    alone = {
        key.description[0]: key.tooltip
        for keys in panel.proposed.values()
        for key in keys
        if "fl-alone" in key._dom_classes
    }
    assert set(alone) == {"大", "也", "小", "不"}
    assert alone["小"] == "type this word; proposed by own alone"
    panel.proposed["global"][0].click()
    assert "fl-alone" not in panel.proposed["global"][0]._dom_classes  # now both propose 大
    single = KeyboardPanel({"global": made(0)}, ["房间"])
    assert all("fl-alone" not in key._dom_classes for key in single.proposed["global"])


def test_a_pressed_word_is_typed_and_counted_for_who_foresaw_it(panel):
    panel.proposed["own"][0].click()
    assert panel.typed == ("房间", "很")
    assert shown(panel, "global") == [("大", "big", "90%")]
    panel.proposed["own"][0].click()  # 小, which the other does not foresee
    assert panel.typed == ("房间", "很", "小")
    assert counted(panel) == ["1 of 2", "2 of 2"]
    panel.beginnings[1].click()
    assert panel.typed[-1] == "，"
    assert counted(panel) == ["1 of 2", "2 of 2"]  # a mark is not asked for
    assert shown(panel, "global") == shown(panel, "own") == []
    panel.proposed["own"][0].click()  # too late
    assert len(panel.typed) == 4
    panel.take_back.click()
    panel.take_back.click()
    assert (panel.typed, counted(panel)) == (("房间", "很"), ["1 of 1", "1 of 1"])
    panel.clear.click()
    panel.take_back.click()
    assert panel.typed == ()
    assert panel.readout == ENGLISH["no_word"]
    assert shown(panel, "own") == []


def test_chance_follows_the_chosen_keyboard_and_the_seed():
    def written(seed, hand):
        panel = KeyboardPanel({"global": made(0), "own": made(1)}, ["房间"], seed)
        panel.hand.value = hand
        drawn = []
        for _ in range(60):
            panel.by_chance.click()
            drawn.append(panel.typed[-1])
            panel.take_back.click()
        return drawn

    drawn = written(0, "own")
    assert drawn == written(0, "own") != written(1, "own")
    assert set(drawn) == {"很", "小", "不"}
    assert drawn.count("很") > drawn.count("不")
    assert "小" not in written(0, "global")


def test_chance_begins_where_there_is_nothing_to_follow(panel):
    panel.clear.click()
    panel.by_chance.click()
    assert panel.typed in (("房间",), ("，",))


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_typed_and_the_answer_comes_after_a_move(panel, name):
    panel._try(name)
    assert panel.typed == tuple(TEXTS[name])
    assert panel.readout.splitlines()[1:] == [ENGLISH[f"{name}_look"]]
    counts = counted(panel)
    asked = len([word for word in TEXTS[name][1:] if word != "，"])
    assert [count.split(" of ")[1] for count in counts] == [str(asked)] * 2
    panel.take_back.click()
    found = ", ".join(
        f"{each} {count.split()[0]}" for each, count in zip(panel.counts, counts, strict=True)
    )
    said = f"Of the {asked} words after the first, foreseen were: {found}."
    assert panel.readout.splitlines()[2] == said


def test_always_the_first_word_goes_in_circles():
    follows = {"房间": "很", "很": "好", "好": "很"}
    panel = KeyboardPanel({"one": lambda words, k: [(follows[words[-1]], 0.5)]}, ["房间"])
    panel._try("try_first")
    assert panel.typed[:5] == ("房间", "很", "好", "很", "好")
    assert len(panel.typed) == 15
    assert "“one” writes" in panel.readout
    panel.clear.click()
    assert panel.readout.endswith("3 different words among the 15 that “one” wrote.")


def test_a_keyboard_that_fails_is_told_of_and_nothing_is_typed(panel):
    def fails(words, k):
        if len(words) > 1:
            raise RuntimeError("no battery")
        return [("很", 0.5)]

    panel = KeyboardPanel({"global": fails}, ["房间"])
    panel.proposed["global"][0].click()
    assert panel.board.status["state"] == "error"
    assert panel.readout == "Something went wrong: no battery"
    assert panel.typed == ("房间",)
    panel._try("try_first")
    assert panel.board.status["state"] == "error"
    panel.clear.click()
    assert panel.board.status["state"] == "idle"


def test_what_is_typed_is_no_html():
    panel = KeyboardPanel({"<i>": lambda words, k: []}, ["<b>x"])
    assert "<b>x" not in panel.text.value
    assert "<i>" not in panel.counts["<i>"].value


def test_what_is_no_keyboard_and_no_beginning_is_refused():
    with pytest.raises(ValueError, match=r"keyboards: got \{\}, expected at least one"):
        KeyboardPanel({})
    for beginnings in ([], "房间", ["房间", ""]):
        with pytest.raises(ValueError, match=r"beginnings: got .* expected a list of at least one"):
            KeyboardPanel({"global": made(0)}, beginnings)


def test_the_still_picture_has_words_meanings_and_percent(panel):
    for _ in range(7):
        panel.beginnings[0].click()
    texts = [text.get_text() for text in panel._still().axes[0].texts]
    assert texts[0] == ENGLISH["typed"]
    assert texts.count("房间") == 5
    assert "…" in texts
    assert "very  50%" in texts
    assert "also  <1%" in texts
    assert len(panel._still().axes[0].lines) == 4  # below what one keyboard alone proposes
    panel.clear.click()
    assert "房间" in [text.get_text() for text in panel._still().axes[0].texts]


def test_two_files_of_models_answer_fast():
    vocab = task().vocab.first(WORDS)
    files = [sealed(to_onnx(TiedLSTM(WORDS, 64, seed=seed), vocab, bits=8)) for seed in range(2)]
    panel = KeyboardPanel({str(i): Suggestions(content) for i, content in enumerate(files)})
    assert panel.typed == (BEGINNINGS[0],)
    keyboard = Suggestions(files[1])
    took = []
    for _ in range(10):
        word = keyboard.next(panel.typed)[2][0]
        assert panel.proposed["1"][2].description.split("\n")[0] == word
        began = time.monotonic()
        panel.proposed["1"][2].click()
        took.append(time.monotonic() - began)
        assert panel.typed[-1] == word
    assert sorted(took)[5] < 0.2
    assert panel.counts["1"].value.endswith("foresaw 10 of 10")
    panel._try("try_first")
    first = Suggestions(files[0])
    for at in range(1, len(panel.typed)):
        assert first.next(panel.typed[:at], 1)[0][0] == panel.typed[at]
