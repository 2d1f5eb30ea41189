"""The panel of leaks: what is sent decides what is read, and what is shown is what was read."""

import pytest

from fedlab_helpers.lessons.glosses import gloss
from fedlab_helpers.lessons.panels import LeakPanel
from fedlab_helpers.lessons.panels.leak_panel import NOISES, REVIEWS, SENDS, WRITTEN
from fedlab_helpers.studies.study import task
from fedlab_helpers.tasks.reviews.words import is_word, tokenize


@pytest.fixture(scope="module")
def trained():
    return LeakPanel(task()).models["trained"]


@pytest.fixture
def panel(trained):
    return LeakPanel(task(), trained)


def test_each_word_of_the_examples_is_known_and_has_a_gloss():
    for review in REVIEWS:
        words = tokenize(review.text)
        assert all(word in task().vocab and (gloss(word) or not is_word(word)) for word in words), (
            words
        )


def test_a_gradient_is_read_word_for_word(panel):
    assert panel.readout == (
        "1 of 1 reviews are read word for word, 1 with a certificate; 6 of 6 words are named."
    )
    html = panel.map.value
    assert html.count("房间") == 2  # written, and read
    assert "room" in html
    assert "Certain:" in html


def test_all_four_reviews_are_read_off_their_mean(panel):
    panel._try("try_four_reviews")
    assert panel.readout.startswith("4 of 4 reviews are read word for word, 4 with")
    assert panel.map.value.count("Certain:") == 4


def test_five_steps_of_adam_hide_the_order_and_not_the_words(panel):
    panel._try("try_adam")
    assert panel.readout.startswith("0 of 1 reviews are read word for word, 0 with")
    assert "6 of 6 words" in panel.readout
    assert "Not certain:" in panel.map.value


def test_noise_hides_words(panel):
    panel.form.leak_noise.value = 1e-2
    found = int(panel.readout.split("; ")[1].split()[0])
    assert found < 6
    panel.form.leak_noise.value = 0.0
    assert "6 of 6 words" in panel.readout


@pytest.mark.parametrize("stage", ["trained", "untrained"])
@pytest.mark.parametrize("sends", SENDS)
def test_every_combination_is_answered(panel, stage, sends):
    panel.form.stage.value, panel.form.sends.value = stage, sends
    for written in WRITTEN:
        for noise in (NOISES[0], NOISES[-1]):
            for count in (1, len(REVIEWS)):
                with panel._at_once():
                    panel.form.written_in.value = written
                    panel.form.leak_noise.value = noise
                    panel.form.reviews_sent.value = count
                assert panel.board.status["state"] == "idle"
                assert f"of {count} reviews" in panel.readout


def test_steps_are_off_where_a_gradient_is_sent(panel):
    assert panel.form.local_steps.disabled
    panel.form.sends.value = "sgd"
    assert not panel.form.local_steps.disabled


def test_the_still_picture_has_the_words(panel):
    texts = [text.get_text() for text in panel._still().axes[0].texts]
    assert texts == [*tokenize(REVIEWS[0].text)] * 2
