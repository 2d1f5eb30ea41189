"""The checks of notebook 12: right answers pass, mistakes get hints, stubs are not yet."""

from collections import Counter

import pytest
import torch

from fedlab_helpers.core.state import norm
from fedlab_helpers.lessons.checks import protection as checks
from fedlab_helpers.privacy.budget import delta_of


def refused(verdict, *words):
    assert not verdict.passed
    assert verdict.started
    for word in words:
        assert word in verdict.message, verdict.message


def mask_all(values, common, modulus):
    sent = []
    for me, value in enumerate(values):
        for other in range(len(values)):
            if other != me:
                value += common(me, other) if me < other else -common(me, other)
        sent.append(value % modulus)
    return sent


def secret_of(shares, prime):
    secret = 0
    for i, share in shares.items():
        for j in shares:
            if j != i:
                share = share * j * pow(j - i, -1, prime)
        secret += share
    return secret % prime


def clip_whole(change, most):
    scale = min(1.0, most / max(norm(change), 1e-12))
    return {name: tensor * scale for name, tensor in change.items()}


def noise_needed(epsilon, delta, rounds):
    low, high = 1e-3, 1e3
    for _ in range(60):
        middle = (low * high) ** 0.5
        if delta_of(epsilon, rounds**0.5 / middle) <= delta:
            high = middle
        else:
            low = middle
    return high


def mended(changes, examples, clip, cohort, noise):
    total = clip * noise
    for change in changes:
        total = total + clip_whole(change, clip)["w"]
    return {"w": total / cohort}


def words_to_keep(clients, most, threshold, noise):
    votes = Counter()
    for words in clients:
        votes.update(word for word, _ in Counter(words).most_common(most))
    return {word for word in votes if votes[word] + noise() >= threshold}


RIGHT = {
    "mask_all": mask_all,
    "secret_of": secret_of,
    "clip_whole": clip_whole,
    "noise_needed": noise_needed,
    "mended": mended,
    "words_to_keep": words_to_keep,
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass_and_stubs_are_not_yet(name):
    def stub(*_):
        raise NotImplementedError

    check = getattr(checks, name)
    assert check(RIGHT[name]).passed, check(RIGHT[name])
    assert not check(stub).started
    refused(check(lambda *_: None))


def only_adds(values, common, modulus):
    each = range(len(values))
    return [(v + sum(common(i, j) for j in each if j != i)) % modulus for i, v in enumerate(values)]


def next_only(values, common, modulus):
    n = len(values)
    pairs = [(common(i, (i + 1) % n), common(i, (i - 1) % n)) for i in range(n)]
    return [(v + a - b) % modulus for v, (a, b) in zip(values, pairs, strict=True)]


def test_masks():
    refused(checks.mask_all(only_adds), "one adds the common number and the other subtracts it")
    refused(checks.mask_all(lambda values, common, modulus: values), "moves []")
    refused(checks.mask_all(next_only), "both, and nobody else")
    refused(checks.mask_all(lambda v, c, m: [x + m for x in mask_all(v, c, m)]), "all lie from 0")
    refused(checks.mask_all(lambda v, c, m: mask_all(v, c, m)[:2]), "one for each client")
    refused(checks.mask_all(lambda v, c, m: [c(0, 0)]), "in common with itself")


def test_secrets():
    refused(checks.secret_of(lambda s, p: secret_of(s, p) + p), "not reduced")
    refused(checks.secret_of(lambda s, p: sum(s.values()) % p), "a share of a sum")
    refused(checks.secret_of(lambda s, p: 1.5), "whole number")
    refused(checks.secret_of(lambda s, p: 1), "each share counts by the product")


def test_clipping():
    def one_by_one(change, most):
        return {n: t.clamp(-most, most) for n, t in change.items()}

    def always(change, most):
        return {n: t * most / norm(change) for n, t in change.items()}

    refused(checks.clip_whole(one_by_one), "what is then the length of both")
    refused(checks.clip_whole(always), "short change stays")
    refused(checks.clip_whole(lambda c, m: c["w"]), "same names")

    def zero(change, most):
        length = torch.cat(list(change.values())).norm()
        return {
            n: t * (most / length).clamp(max=1) if length > 0 else t / 0 for n, t in change.items()
        }

    refused(checks.clip_whole(zero), "divide by zero")


def test_noise():
    refused(checks.noise_needed(lambda e, d, t: noise_needed(e, d, 1)), "one round")
    refused(checks.noise_needed(lambda e, d, t: noise_needed(e, d, t) * t**0.5), "by their root")
    refused(checks.noise_needed(lambda e, d, t: 100.0), "more than needed")
    refused(checks.noise_needed(lambda e, d, t: 0.1), "too little")
    refused(checks.noise_needed(lambda e, d, t: -1.0), "above 0")


def test_the_mended_mean():
    def by_examples(changes, examples, clip, cohort, noise):
        weights = [n / sum(examples) * len(examples) for n in examples]
        total = clip * noise
        for change, weight in zip(changes, weights, strict=True):
            total = total + weight * clip_whole(change, clip)["w"]
        return {"w": total / cohort}

    def by_those_who_came(changes, examples, clip, cohort, noise):
        return mended(changes, examples, clip, len(changes), noise)

    def unclipped(changes, examples, clip, cohort, noise):
        return mended(changes, examples, 1e9, cohort, noise * clip / 1e9)

    refused(checks.mended(by_examples), "many examples")
    refused(checks.mended(by_those_who_came), "who came must not show")
    refused(checks.mended(unclipped), "clip each change")

    def fails_on_nobody(changes, examples, clip, cohort, noise):
        changes[0]
        return mended(changes, examples, clip, cohort, noise)

    refused(checks.mended(fails_on_nobody), "nobody")


def test_words():
    def every_time(clients, most, threshold, noise):
        votes = Counter(word for words in clients for word in words)
        return {word for word in votes if votes[word] + noise() >= threshold}

    def all_votes(clients, most, threshold, noise):
        votes = Counter(word for words in clients for word in set(words))
        return {word for word in votes if votes[word] + noise() >= threshold}

    def quiet(clients, most, threshold, noise):
        return words_to_keep(clients, most, threshold, lambda: 0.0)

    def too_late(clients, most, threshold, noise):
        votes = Counter(word for words in clients for word in set(words))
        for _ in votes:
            noise()
        return words_to_keep(clients, most, threshold, lambda: 0.0)

    def one_noise(clients, most, threshold, noise):
        drawn = noise()
        return words_to_keep(clients, most, threshold, lambda: drawn)

    def noise_of_each_vote(clients, most, threshold, noise):
        votes = Counter()
        for words in clients:
            for word, _ in Counter(words).most_common(most):
                votes[word] += 1 + noise()
        return {word for word in votes if votes[word] >= threshold}

    def rarest(clients, most, threshold, noise):
        votes = Counter()
        for words in clients:
            votes.update(word for word, _ in Counter(words).most_common()[-most:])
        return {word for word in votes if votes[word] + noise() >= threshold}

    refused(checks.words_to_keep(one_noise), "called 1 times")
    refused(checks.words_to_keep(noise_of_each_vote), "called 15 times")
    refused(checks.words_to_keep(rarest), "most often")
    refused(checks.words_to_keep(every_time), "thousand times")
    refused(checks.words_to_keep(all_votes), "vote for `most` words")
    refused(checks.words_to_keep(quiet), "without noise")
    refused(checks.words_to_keep(too_late), "before the threshold")
    refused(checks.words_to_keep(lambda *_: "good"), "return a set")
    refused(checks.words_to_keep(lambda *_: set()), "used by all five")
