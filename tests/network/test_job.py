"""A job: what it refuses, and that it trains as the recipe does that it was made of."""

import pytest

from fedlab_helpers.core.plan import Plan
from fedlab_helpers.core.state import of_model
from fedlab_helpers.network import CODECS, Job
from fedlab_helpers.recipe import STRATEGIES, Recipe

WORDS = ("很好", "很差")
RECIPES = (
    Recipe("fedadam", server_rate=0.5, cell="gru", hidden=7, seed=3),
    Recipe("krum", {"f": 1}, keep="dense", optimizer="sgd"),
    Recipe("fedprox", keep="topk", amount=0.1, write="signs", squeeze=3, feedback=True),
    Recipe("qfedavg", optimizer="sgd", lr=0.5),
    Recipe("rowwise"),
)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.strategy)
def test_a_job_trains_as_its_recipe_does(recipe, small_task, bits):
    job = Job.of(recipe, small_task)
    assert Job.from_json(job.to_json()) == job
    assert job.new_strategy() == recipe.new_strategy()
    assert job.new_codec() == recipe.new_codec()
    assert job.plan == recipe.plan()
    assert bits(of_model(job.new_model())) == bits(of_model(recipe.new_model(small_task)))
    assert job.vocab.words == small_task.vocab.words


def test_every_strategy_can_be_asked_for_by_its_name_alone():
    for name in STRATEGIES:
        Job(WORDS, Plan(2), strategy=name)
    for codec in CODECS:
        Job(WORDS, Plan(2), codec=codec)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strategy": "best"}, "strategy: got 'best', expected one of"),
        ({"codec": "best"}, "codec: got 'best', expected one of"),
        ({"codec": {"keep": "topk", "amount": 3.0}}, "got 3.0"),
        ({"codec": None}, "codec: got None, expected one of"),
        ({"downlink": "best"}, "downlink: got 'best', expected one of"),
        ({"downlink": 3}, "downlink: got 3, expected one of"),
        ({"downlink": "ternary"}, "codec: got .*Ternary.* may lose more than there was"),
        ({"downlink": "signs", "strategy": "own", "options": {}}, "strategy: got 'own'"),
        ({"strategy": "fedprox", "options": {"nu": 1}}, r"nu.*fedprox has \['mu'"),
        (
            {"strategy": "rowwise", "codec": "dense"},
            "'touched_rows', as rowwise averages",
        ),
    ],
)
def test_what_is_wrong_is_refused_before_it_travels(values, message):
    with pytest.raises(ValueError, match=message):
        Job(WORDS, Plan(2), **values)


def test_what_a_network_has_not_is_refused(small_task):
    own = Recipe("rowwise", method="tune", partition="by_domain")
    for recipe, name in ((own, "method"), (Recipe(attackers=0.2), "attackers")):
        with pytest.raises(ValueError, match=f"{name}: got .* in a network"):
            Job.of(recipe, small_task)


def test_no_other_text_is_a_job():
    good = Job(WORDS, Plan(2)).to_json()
    for text in ("", "[]", "{}", '{"plan": {}}', good.replace("epochs", "eras")):
        with pytest.raises(ValueError, match="job: not the JSON of one"):
            Job.from_json(text)


@pytest.mark.parametrize("task", ["nowhere:LEVEL", "own_task:NOTHING", "own_task", ""])
def test_a_task_that_cannot_be_imported_is_named(task):
    with pytest.raises(ValueError, match="task: got"):
        Job((), Plan(1), task=task).new_model()
