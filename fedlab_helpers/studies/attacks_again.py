"""The attacks of `leaks` and `leaks_canary` once more, under each protection.

A target is attacked by what is seen of its update among those of others. `chance` is what the same
attack gets where somebody else stands in the target's place. What a mean or noise at the server
hides, it hides from those who see the mean; the server itself sees "nothing" protected. Updates are
dense. "public words": word vectors that nobody trains or sends, and nothing else.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import cycle, islice

import numpy as np
from torch import Tensor, nn

from fedlab_helpers.core.compute import child_seed, numpy_rng
from fedlab_helpers.core.examples import Examples
from fedlab_helpers.core.rounds import run
from fedlab_helpers.core.state import State, add, of_model, subtract
from fedlab_helpers.core.training import LocalConfig, train
from fedlab_helpers.privacy import leaks
from fedlab_helpers.privacy.public_vectors import public_vectors
from fedlab_helpers.recipe import Recipe
from fedlab_helpers.studies import attackers
from fedlab_helpers.studies import leaks_canary as canary
from fedlab_helpers.studies.leaks import ADAM, PLAIN
from fedlab_helpers.studies.protections import CLIP, COHORT, PROTECTIONS, SUMS, cheated
from fedlab_helpers.studies.study import Row, Settings, Study, begin, grid, rounded, task
from fedlab_helpers.tasks.reviews.encoded import EncodedReviews
from fedlab_helpers.tasks.reviews.model import FrozenWords, PublicWordsLSTM, SentimentLSTM

PUBLIC = "public words"
TARGETS, OTHERS = 12, COHORT - 1
STAGE = 10  # rounds after which the model is sent, but for the clock, which runs before training
REVIEWS = 12  # of a client that trains
LEAST = 5  # words of a review whose gradient is sent
REPEATS = 20  # of the canary

Attack = Callable[[EncodedReviews, State], float]  # the target's reviews, what is seen


@cache
def vectors(size: int) -> Tensor:
    """Return public vectors of the task's words, (V, size)."""
    return public_vectors(task().vocab, size)


@cache
def weights(stage: int, seed: int, public: bool) -> State:
    """Return the weights of a model after so many rounds of 20 clients; where words are its own,
    those of `leaks.stages`."""
    dealt = {"partition": "iid", "clients": 20, "cohort": 20, "rounds": stage or 1, "seed": seed}
    recipe = Recipe("fedavg" if public else "rowwise", **dealt, pooling="last", dropout=0.0)
    model, clients, strategy, plan = begin(recipe, lr=ADAM.lr)
    model = PublicWordsLSTM(vectors(64), pooling="last", seed=seed) if public else model
    if stage:
        run(model, clients, strategy, plan)
    return of_model(model)


def received(stage: int, seed: int, public: bool) -> nn.Module:
    """Return the model that clients get."""
    usual = SentimentLSTM(len(task().vocab))
    model = PublicWordsLSTM(vectors(64), pooling="last") if public else usual
    model.load_state_dict(weights(stage, seed, public))
    return model.eval()


def change(model: nn.Module, data: Examples, config: LocalConfig, seed: int) -> State:
    """Return by how much a client's training changes the weights."""
    learner = copy.deepcopy(model)
    train(learner, data, config, seed=seed)
    return subtract(of_model(learner), of_model(model))


def row(attack: str, protection: str, value: float, chance: float) -> Row:
    """Return a row of the table."""
    return {"attack": attack, "protection": protection, **rounded(value=value, chance=chance)}


def scored(
    name: str,
    protection: str,
    seen: Sequence[State],
    attack: Attack,
    data: Sequence[EncodedReviews],
) -> Row:
    """Return how an attack does, on average over the targets: by what is seen of each, and by what
    is seen of another."""
    own, other = ([attack(data[k], seen[k - off]) for k in range(len(seen))] for off in (0, 1))
    return row(name, protection, np.mean(own), np.mean(other))


def see(protection: str, updates: Sequence[State], largest: float, seed: int) -> State:
    """Return what is seen of the first of these updates, no value of which is above `largest`."""
    return PROTECTIONS["nothing" if protection == PUBLIC else protection].of(updates, largest, seed)


def see_each(protection: str, sent: Sequence[State], largest: float, seed: int) -> list[State]:
    """Return what is seen of each target; `sent` has the targets' updates and then the others'."""
    targets, others = sent[:TARGETS], sent[TARGETS:]
    seeds = [child_seed(seed, k) for k in range(TARGETS)]
    return [see(protection, [u, *others], largest, s) for u, s in zip(targets, seeds, strict=True)]


def each_protection(send: Callable[[bool], list[State]]) -> Iterator[tuple[str, list[State]]]:
    """Yield each protection and what clients send: `send` is asked for the usual model, and for
    one over public words, of which the targets' updates are enough."""
    usual = send(False)
    yield from ((name, usual) for name in PROTECTIONS)
    yield PUBLIC, send(True)


def measure_one_review(seed: int) -> Iterator[Row]:
    """Yield how the clock and dominoes do where clients send the gradient of a single review."""
    enough = (task().test.lengths >= LEAST).nonzero()[:, 0].numpy()
    drawn = numpy_rng(seed, "one review").choice(enough, TARGETS + OTHERS, replace=False)
    reviews = [task().test.subset([place]) for place in drawn]
    for stage in (0, STAGE):
        models = [received(stage, seed, public) for public in (False, True)]

        def send(public: bool, models: list[nn.Module] = models) -> list[State]:
            some = reviews[:TARGETS] if public else reviews
            return [leaks.gradient_of(models[public], one) for one in some]

        for protection, sent in each_protection(send):
            seen, model = see_each(protection, sent, CLIP, seed), models[protection == PUBLIC]
            if stage == 0:
                yield scored("clock", protection, seen, partial(attackers.clock, model), reviews)
            else:
                yield from _words_and_sentences(protection, seen, model, reviews)


def _words_and_sentences(
    protection: str, seen: Sequence[State], model: nn.Module, reviews: Sequence[EncodedReviews]
) -> Iterator[Row]:
    yield scored("words of one review", protection, seen, partial(attackers.words, model), reviews)
    count = 1 if protection == PUBLIC else PROTECTIONS[protection].clients
    own, other = (
        [attackers.sentence(model, reviews[k], seen[k - off], count) for k in range(TARGETS)]
        for off in (0, 1)
    )
    yield row("sentences", protection, *(np.mean(each, 0)[0] for each in (own, other)))
    yield row("false certificates", protection, np.sum(own, 0)[1], 0.0)


def measure_twelve_reviews(seed: int) -> Iterator[Row]:
    """Yield how the words of a client are told that trains for an epoch, and its reviews."""
    rng, models = numpy_rng(seed, "twelve"), [received(STAGE, seed, p) for p in (False, True)]
    draws = [rng.choice(len(task().test), 2 * REVIEWS, replace=False) for _ in range(TARGETS)]
    pools = [task().test.subset(drawn) for drawn in draws]
    held = [pool.subset(range(REVIEWS)) for pool in pools]
    draws = [rng.choice(len(task().train), REVIEWS, replace=False) for _ in range(OTHERS)]
    others = [task().train.subset(drawn) for drawn in draws]

    def send(public: bool) -> list[State]:
        clients = held if public else [*held, *others]
        return [change(models[public], c, ADAM, child_seed(seed, k)) for k, c in enumerate(clients)]

    for protection, sent in each_protection(send):
        model = models[protection == PUBLIC]
        seen = see_each(protection, sent, ADAM.lr * ADAM.steps(REVIEWS), seed)
        for name, attack, data in (
            ("words", attackers.words, held),
            ("membership by words", attackers.member_words, pools),
            ("membership by loss", attackers.member_loss, pools),
        ):
            yield scored(name, protection, seen, partial(attack, model), data)


def measure_canary(seed: int) -> Iterator[Row]:
    """Yield the exposure of a secret in bits, after one round of the next-word model. Nine others
    train; in larger cohorts each of them counts several times."""
    asked, clients = canary.TASKS["next word"], canary.ten_clients(seed)
    sentences = canary.canaries(asked.secret, asked.candidates, seed)
    told = canary.planted(clients[0], sentences, REPEATS)
    clients = [asked.examples(reviews) for reviews in (told, *clients)]
    largest = canary.LOCAL.lr * canary.LOCAL.steps(len(clients[0]))
    candidates, models = asked.examples(sentences), [asked.new_model(seed) for _ in range(2)]
    models[True].embedding = FrozenWords(vectors(models[True].recurrent.input_size)[: canary.WORDS])
    models[True].token_parameter = None

    def send(public: bool) -> list[State]:
        some = clients[:2] if public else clients
        model, seeds = models[public], (child_seed(seed, k) for k in range(len(some)))
        return [change(model, c, canary.LOCAL, s) for c, s in zip(some, seeds, strict=True)]

    for protection, (secret, silent, *nine) in each_protection(send):
        model, bits = models[protection == PUBLIC], []
        for own in (secret, silent):
            others = islice(cycle(nine), OTHERS if nine else 0)
            seen = see(protection, [own, *others], largest, seed)
            learner = copy.deepcopy(model)
            learner.load_state_dict(add(of_model(model), seen))
            bits.append(canary.given_away(learner, candidates)[0])
        yield row("canary", protection, *bits)


def measure_shut_gates(seed: int) -> Iterator[Row]:
    """Yield what of one client a server reads in a secure sum of ten, if it sends the other nine
    a model that silences them: where masks hang on the model, and where they do not."""
    model = received(STAGE, seed, public=False)
    closed = copy.deepcopy(model)
    closed.load_state_dict(leaks.shut(model))
    enough = (task().test.lengths >= LEAST).nonzero()[:, 0].numpy()
    for name, attack, reviews, config, largest in (
        ("words", attackers.words, REVIEWS, ADAM, ADAM.lr * ADAM.steps(REVIEWS)),
        ("sentences", attackers.exact, 1, PLAIN, CLIP),
    ):
        rng = numpy_rng(seed, "shut", name)
        draws = [rng.choice(enough, reviews, replace=False) for _ in range(TARGETS + 9)]
        data = [task().test.subset(drawn) for drawn in draws]
        silent = [change(closed, other, config, seed) for other in data[TARGETS:]]
        own = [change(model, target, config, seed) for target in data[:TARGETS]]
        for kind, (bits, bound) in SUMS.items():
            seen = [cheated([u, *silent], largest, bits, bound, seed) for u in own]
            yield scored(f"shut gates: {name}", kind, seen, partial(attack, model), data)


PARTS = {
    "one review": measure_one_review,
    "twelve reviews": measure_twelve_reviews,
    "canary": measure_canary,
    "shut gates": measure_shut_gates,
}


def measure_attacks(settings: Settings) -> Iterator[Row]:
    """Yield the rows of one part."""
    return PARTS[settings["part"]](settings["seed"])


ATTACKS_AGAIN = Study("attacks_again", grid(seed=range(3), part=PARTS), measure_attacks)
