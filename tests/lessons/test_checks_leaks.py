"""Checks of notebook 11: right answers pass, likely mistakes get their own hint."""

import copy

import numpy as np
import torch
from verdicts import refused

from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.lessons.checks import leaks as checks
from fedlab_helpers.privacy import leaks
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews


def moved(table):
    return table.any(dim=1)


def test_words_of_the_other():
    mine_out = lambda total, mine: (moved(total) & ~moved(mine)).nonzero()[:, 0]  # noqa: E731
    assert checks.words_of_the_other(mine_out).passed
    assert checks.words_of_the_other(lambda t, m: mine_out(t, m).tolist()).passed
    both = lambda total, mine: moved(total).nonzero()[:, 0]  # noqa: E731
    refused(checks.words_of_the_other(both), "words of both")
    difference = lambda total, mine: moved(total - mine).nonzero()[:, 0]  # noqa: E731
    refused(checks.words_of_the_other(difference), "words 2 and 5 are in both")
    sums = lambda t, m: ((t.sum(1) != 0) & ~moved(m)).nonzero()[:, 0]  # noqa: E731
    refused(checks.words_of_the_other(sums), "row's numbers add up to zero")
    own_sums = lambda t, m: (moved(t) & (m.sum(1) == 0)).nonzero()[:, 0]  # noqa: E731
    refused(checks.words_of_the_other(own_sums), "one of your rows")
    refused(checks.words_of_the_other(lambda t, m: (moved(m) & ~moved(t)).nonzero()), "Which rows")


def test_class_and_state():
    whole = lambda w, b: (int(b.argmin()), b @ w / (b @ b))  # noqa: E731
    assert checks.class_and_state(whole).passed
    assert checks.class_and_state(lambda w, b: [b.argmin(), (b @ w / (b @ b)).tolist()]).passed
    refused(checks.class_and_state(lambda w, b: (int(b.argmax()), w[0] / b[0])), "negative")
    refused(checks.class_and_state(lambda w, b: (int(b.argmin()), w[0] / b[0])), "by a zero")
    mean = lambda w, b: (int(b.argmin()), (w / b.clamp(min=1e-9)[:, None]).mean(0))  # noqa: E731
    refused(checks.class_and_state(mean), "the state is")
    refused(checks.class_and_state(lambda w, b: int(b.argmin())), "two things")
    single = lambda w, b: (int(b.argmin()), w[b.argmin()] / b.min())  # noqa: E731
    refused(checks.class_and_state(single), "use all of them")
    one_class = lambda w, b: (int(b.argmin()), w[b != 0].mean(0) / b[b != 0].mean())  # noqa: E731
    refused(checks.class_and_state(one_class), "state")


def rnn(model, gradient, start=0.0, words=None):
    words = leaks.touched(gradient["embedding.weight"]) if words is None else words
    vectors = model.embedding.weight[words].detach().double().T
    by_input, by_state = (gradient[f"recurrent.weight_{k}_l0"].double() for k in ("ih", "hh"))
    gates = torch.linalg.lstsq(vectors, by_input.T).solution
    before = torch.linalg.lstsq(gates.T, by_state).solution
    layer, line = copy.deepcopy(model.recurrent).double(), []
    state = torch.full((1, 1, before.shape[1]), start, dtype=torch.float64)
    with torch.no_grad():
        for _ in words:
            place = int((before - state[0, 0]).norm(dim=1).argmin())
            line.append(int(words[place]))
            _, state = layer(vectors[:, place][None, None], state)
    return line


def test_read_rnn():
    assert checks.read_rnn(rnn).passed
    refused(checks.read_rnn(lambda m, g: rnn(m, g)[::-1]), "the order is not")
    refused(checks.read_rnn(lambda m, g: rnn(m, g)[:-1]), "other words")
    by_clock = lambda m, g: leaks.clock(g["embedding.weight"])  # noqa: E731
    refused(checks.read_rnn(by_clock), "the order is not")
    sorted_only = lambda m, g: leaks.touched(g["embedding.weight"])  # noqa: E731
    refused(checks.read_rnn(sorted_only), "the order is not")

    def stepped(model, gradient):
        found = rnn(model, gradient)
        with torch.no_grad():
            model.head.bias += 1
        return found

    refused(checks.read_rnn(stepped), "own weights")


def test_undo_adam():
    share = lambda change, lr: -change / lr  # noqa: E731
    undone = lambda c, lr: share(c, lr) * 1e-8 / (1 - share(c, lr).abs())  # noqa: E731
    assert checks.undo_adam(undone).passed
    refused(checks.undo_adam(lambda c, lr: -undone(c, lr)), "wrong way round")
    refused(checks.undo_adam(share), "plain SGD")
    refused(checks.undo_adam(lambda c, lr: undone(c, 5e-3)), "lr 0.1")
    refused(checks.undo_adam(lambda c, lr: undone(c, lr).sum()), "one gradient for each")


def named(members, strangers, share, strict=False):
    found = 0.0
    for level in np.concatenate([members, strangers]):
        accused = strangers > level if strict else strangers >= level
        if accused.mean() <= share:
            found = max(found, (members >= level).mean())
    return found


def test_named_members():
    assert checks.named_members(named).passed
    # Ties among strangers: all of those at the threshold are accused.
    refused(checks.named_members(lambda m, s, share: named(m, s, share, strict=True)))
    refused(checks.named_members(lambda m, s, share: 100 * named(m, s, share)), "plain scores")


def reaches(model, tokens, lengths, labels, parts=("recurrent",)):
    model = copy.deepcopy(model).eval()
    torch.nn.functional.cross_entropy(model(tokens, lengths), labels).backward()
    return all(
        float(p.grad.norm()) > 1e-6
        for name, p in model.named_parameters()
        if name.startswith(parts)
    )


def moves(model, tokens, lengths, labels):
    learner = copy.deepcopy(model)
    train(learner, EncodedReviews(tokens, lengths, labels), LocalConfig(epochs=3))
    pairs = zip(model.recurrent.parameters(), learner.recurrent.parameters(), strict=True)
    return any(float((a - b).detach().norm()) > 1e-4 for a, b in pairs)


def test_may_train():
    assert checks.may_train(reaches).passed
    assert checks.may_train(moves).passed
    refused(checks.may_train(lambda *a: True), "True of output gates shut")
    refused(checks.may_train(lambda *a: False), "False of a model of round 0", "learns")
    only_head = lambda *a: reaches(*a, parts=("head",))  # noqa: E731
    assert checks.may_train(only_head).passed  # whose weights get nothing from an output of 0
    bias_only = lambda model, *a: bool((model.recurrent.bias_ih_l0 > -100).all())  # noqa: E731
    refused(checks.may_train(bias_only), "the other bias")
    small = lambda model, *a: all(bool((p.abs() < 100).all()) for p in model.parameters())  # noqa: E731
    refused(checks.may_train(small), "nearly shut")
    refused(checks.may_train(lambda *a: 1), "return True or False")

    def trains(model, tokens, lengths, labels):
        with torch.no_grad():
            model.head.bias += 1
        return True

    refused(checks.may_train(trains), "was changed")


def test_stubs_are_not_yet():
    def stub(*_):
        raise NotImplementedError

    for check in (
        checks.words_of_the_other, checks.class_and_state, checks.read_rnn, checks.undo_adam,
        checks.named_members, checks.may_train,
    ):  # fmt: skip
        assert not check(stub).started
