"""Models that are sums: what clients send gives the server the model of all data in one place."""

import numpy as np
import pytest
import torch
from owner_toys import turbine_readings
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.objective import NOT_ASKED
from fedlab_helpers.studies import by_sums, plain_models
from fedlab_helpers.studies.by_sums import power_curve, ridge, tfidf_logistic, trigram
from fedlab_helpers.tasks.ngrams import NGram, asked_places
from fedlab_helpers.tasks.objectives import NextToken, Numbers
from fedlab_helpers.tasks.owners import together
from fedlab_helpers.tasks.turbines import turbine_owner


@pytest.fixture
def clients(small_task):
    """Three unequal clients."""
    cuts = ([*range(20)], [*range(20, 150)], [*range(150, 240)])
    return [small_task.train.subset(part) for part in cuts]


def test_tfidf_is_that_of_scikit_learn(small_task):
    words = len(small_task.vocab)
    counted = by_sums.counts(small_task.train, words)
    assert counted.sum() == small_task.train.lengths.sum()
    theirs = TfidfTransformer(sublinear_tf=True).fit(counted)
    found = (counted > 0).sum(0)
    idf = np.log((1 + counted.shape[0]) / (1 + found)) + 1
    np.testing.assert_allclose(idf, theirs.idf_)
    ours = by_sums.tfidf(counted, idf)
    np.testing.assert_allclose(ours.toarray(), theirs.transform(counted).toarray())


def test_the_regression_is_that_of_scikit_learn_over_all_reviews(small_task, clients):
    words = len(small_task.vocab)
    *_, last = tfidf_logistic(clients, 3.0, words, most=200)
    theirs = TfidfTransformer(sublinear_tf=True)
    features = theirs.fit_transform(by_sums.counts(small_task.train, words))
    model = LogisticRegression(C=3.0, tol=1e-8, max_iter=1000)
    model.fit(features, small_task.train.labels)
    test = small_task.test
    expected = model.predict_log_proba(theirs.transform(by_sums.counts(test, words)))
    losses = -expected[np.arange(len(test)), test.labels]
    np.testing.assert_allclose(last.judges(test)[:, 0], losses, atol=2e-4)


def test_how_clients_are_dealt_changes_nothing_and_every_byte_counts(small_task, clients):
    words = len(small_task.vocab)
    several = list(tfidf_logistic(clients, 3.0, words, most=8))
    one = list(tfidf_logistic([small_task.train], 3.0, words, most=8))
    for own, whole in zip(several, one, strict=True):
        np.testing.assert_allclose(
            own.judges(small_task.test), whole.judges(small_task.test), atol=1e-5
        )
    each = 4 * (words + 1)
    assert [(f.bytes_up, f.bytes_down) for f in several[:2]] == [
        (3 * 2 * (each + 4), 3 * 2 * each),
        (3 * (each + 4), 3 * each),
    ]
    losses = [float(f.judges(small_task.train)[:, 0].mean()) for f in several]
    assert losses[-1] < losses[0]


def words_of(seed: int) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, 12, (9, 6), generator=rng)
    targets = tokens.roll(-1, 1)
    targets[:, -1] = NOT_ASKED
    return Examples((tokens, torch.full((9,), 6)), targets, NextToken(), padded=True)


def test_a_trigram_of_summed_counts_is_that_of_all_words():
    parts = [words_of(seed) for seed in range(3)]
    ours, whole = trigram(parts, 0.75, 12), NGram(together(parts), 12, 3, 0.75)
    test = words_of(9)
    expected = test.objective.judge(whole.answer(test), asked_places(test).targets)
    torch.testing.assert_close(ours.judges(test), expected)
    held = [sum(map(len, order.values())) for order in whole.counts]
    assert ours.numbers == sum(held)
    assert ours.bytes_down == 3 * sum((2 * (n + 1) + 4) * count for n, count in enumerate(held))


def readings(seed: int, count: int) -> Examples:
    rng = torch.Generator().manual_seed(seed)
    series = torch.randn(count, 48, 4, generator=rng) + seed
    targets = series[:, :, 0].roll(1, 1) + 0.3 * torch.randn(count, 48, generator=rng)
    targets[:, :24] = torch.nan
    return Examples((series,), targets, Numbers(each_step=True))


@pytest.mark.parametrize("number", [0.01, 10.0])
def test_ridge_of_one_exchange_is_that_of_all_readings(number):
    parts = [readings(seed, 3 + seed) for seed in range(3)]
    ours, test = ridge(parts, number), readings(7, 4)
    fit = plain_models.on_table(plain_models.glucose_features, plain_models.linear)
    theirs = fit(together(parts), number)
    torch.testing.assert_close(ours.judges(test), theirs(test), rtol=1e-4, atol=1e-5)
    size = 24 + 2 + 2  # lags, time of day, target and 1
    assert (ours.bytes_up, ours.bytes_down) == (3 * 8 * size * (size + 1) // 2, 3 * 8 * size)


def test_the_power_curve_of_sums_is_that_of_all_readings():
    parts = [turbine_owner(f"{seed}", turbine_readings(seed)).train for seed in range(3)]
    ours, test = power_curve(parts, 0.5), turbine_owner("9", turbine_readings(9)).validation
    fit = plain_models.on_table(plain_models.turbine_features, plain_models.power_curve)
    theirs = fit(together(parts), 0.5)
    torch.testing.assert_close(ours.judges(test), theirs(test), rtol=1e-3, atol=1e-3)
    bins = 51  # of half a metre a second, the last from 25 on
    assert (ours.bytes_up, ours.bytes_down, ours.bytes_held) == (24 * bins, 12 * bins, 4 * bins)
