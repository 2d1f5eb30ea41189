"""Checks of notebook 14: right answers pass, likely mistakes get their own hint."""

import math

import pandas as pd
import torch
from verdicts import refused

from fedlab_helpers.core.history import RoundRecord
from fedlab_helpers.lessons.checks import network as checks


def seconds(down, up, links, bits=8, over=max):
    return over(bits * (down / d + up / u) / 1e6 + s for d, u, s in links.values())


def worst_link(down, up, links):
    return seconds(down, up, dict([min(links.items(), key=lambda item: item[1][1])]))


def parts(down, up, links):
    return [(8e-6 * down / d, 8e-6 * up / u, s) for d, u, s in links.values()]


def slowest_part(*asked):
    return max(map(max, parts(*asked)))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_round_seconds():
    assert checks.round_seconds(seconds).passed
    refused(checks.round_seconds(lambda *a: seconds(*a, bits=1)), "eight bits")
    refused(checks.round_seconds(lambda *a: seconds(*a, bits=8e6 / 2**20)), "a million bits")
    one_link = lambda d, u, ls: seconds(d, u, {c: (x, x, s) for c, (x, _, s) in ls.items()})  # noqa: E731
    refused(checks.round_seconds(one_link), "its own speed")
    refused(checks.round_seconds(lambda *a: seconds(*a, over=sum)), "same time")
    refused(checks.round_seconds(lambda *a: seconds(*a, over=min)), "slowest")
    refused(checks.round_seconds(lambda *a: seconds(*a, over=mean)), "mean")
    refused(checks.round_seconds(lambda d, u, links: seconds(d, 0, links)), "bytes up?")
    refused(checks.round_seconds(lambda d, u, links: seconds(0, u, links)), "bytes down?")
    refused(checks.round_seconds(lambda *a: slowest_part(*a)), "one after the other")
    idle = lambda d, u, ls: seconds(d, u, {c: (x, y, 0) for c, (x, y, _) in ls.items()})  # noqa: E731
    refused(checks.round_seconds(idle), "seconds of training")
    refused(
        checks.round_seconds(lambda *a: sum(map(max, zip(*parts(*a), strict=True)))),
        "slowest client",
    )
    refused(checks.round_seconds(worst_link), "slowest")
    refused(checks.round_seconds(lambda *a: math.nan), "nan")
    assert checks.round_seconds(lambda *a: torch.tensor(seconds(*a))).passed
    refused(checks.round_seconds(lambda d, u, ls: seconds(d, u, ls) if d else 0.0), "0.25")


def averaged(answers, weighted=True, over_all=False, said="nobody answered"):
    there = [answer for answer in answers.values() if answer]
    if not there:
        raise ValueError(said)
    sizes = [size if weighted else 1 for size, _ in there]
    total = sum(sizes) + (10 if over_all else 0)
    names = there[0][1]
    return {n: sum(k / total * u[n] for k, (_, u) in zip(sizes, there, strict=True)) for n in names}


def in_place(answers):
    made = averaged(answers)
    last = [answer for answer in answers.values() if answer][-1]
    last[1]["b"] += 1
    return made


def unpacks(answers):
    sizes, updates = zip(*filter(None, answers.values()), strict=True)
    return averaged(dict(enumerate(zip(sizes, updates, strict=True))))


def divides(answers):
    try:
        return averaged(answers)
    except ValueError:
        return 1 / 0


def test_mean_of_answers():
    assert checks.mean_of_answers(averaged).passed
    for form in (torch.Tensor.double, torch.Tensor.numpy, torch.Tensor.tolist):
        assert checks.mean_of_answers(
            lambda a, as_=form: {n: as_(t) for n, t in averaged(a).items()}
        ).passed
    assert checks.mean_of_answers(lambda a: averaged(a, said="the list of answers is empty")).passed
    refused(checks.mean_of_answers(lambda a: averaged(a, said="")), "says nothing")
    largest = lambda a: max(size for size, _ in filter(None, a.values())) and averaged(a)  # noqa: E731
    refused(checks.mean_of_answers(largest), "says so", "Python has not", "max()")
    refused(checks.mean_of_answers(lambda a: averaged(a, weighted=False)), "reviews")
    refused(checks.mean_of_answers(lambda a: averaged(a, over_all=True)), "[1, 2] of 10")
    refused(checks.mean_of_answers(in_place), "changed")
    refused(checks.mean_of_answers(divides), "nobody answered")
    refused(checks.mean_of_answers(lambda a: averaged(a) if any(a.values()) else {}), "got {}")
    refused(checks.mean_of_answers(lambda a: averaged(a) if a else {}), "got {}")
    refused(checks.mean_of_answers(unpacks), "says so", "unpack")
    refused(checks.mean_of_answers(lambda a: {"w": averaged(a)["w"]}), "['w', 'b']")
    refused(checks.mean_of_answers(lambda a: averaged(a)["w"]), "dict")


def believed(body, most, whole=True, positive=True, short=True, no_bool=True):
    if not isinstance(body, dict) or not isinstance(body.get("payload"), bytes):
        raise ValueError(f"got {body!r}")
    payload, examples = body["payload"], body.get("examples")
    if short and len(payload) > most:
        raise ValueError(f"got {len(payload)} bytes, expected {most} at most")
    is_whole = type(examples) is int if no_bool else isinstance(examples, int)
    if whole and not is_whole:
        raise ValueError(f"got {examples!r}")
    if positive and not (isinstance(examples, int | float) and examples >= 1):
        raise ValueError(f"got {examples!r}")
    return payload, examples


def silent(body, most):
    try:
        return believed(body, most)
    except ValueError:
        raise ValueError("  ") from None


def in_words(said):
    """Believe as above, but refuse in these words."""

    def function(body, most):
        try:
            return believed(body, most)
        except ValueError:
            raise ValueError(said) from None

    return function


def test_a_refusal_says_what_came():
    refused(checks.checked(in_words("bad")), "no payload", "'bad' does not say what came")
    refused(checks.checked(in_words("payload and examples are wrong")), "a text for a payload")
    refused(checks.checked(lambda b, m: list(believed(b, m))), "a tuple", "got a list")
    whole_bodies = lambda b, m: believed(b, m) if ok(b, m) else tell(b)  # noqa: E731
    assert checks.checked(whole_bodies).passed


def ok(body, most):
    try:
        return bool(believed(body, most))
    except ValueError:
        return False


def tell(body):
    raise ValueError(f"refused: {body!r}")


def lenient(body, most):
    """Takes what only looks like bytes and an int."""
    if isinstance(body, dict) and isinstance(body.get("payload"), bytearray):
        body = body | {"payload": bytes(body["payload"])}
    return believed(body, most)


def of_whole_numbers(body, most):
    if isinstance(body, dict) and body.get("examples") == 3.0:
        body = body | {"examples": 3}
    return believed(body, most)


def emptied(body, most):
    try:
        return believed(body, most)
    finally:
        if isinstance(body, dict):
            body.clear()


def test_checked():
    assert checks.checked(believed).passed
    refused(checks.checked(lenient), "a bytearray")
    refused(checks.checked(of_whole_numbers), "a float, be it whole")
    refused(checks.checked(lambda b, m: silent(b, m)), "no payload", "without a word")
    refused(checks.checked(lambda b, m: believed(b, m, whole=False)), "half")
    refused(checks.checked(lambda b, m: believed(b, m, positive=False)), "no reviews")
    refused(checks.checked(lambda b, m: believed(b, m, short=False)), "11 bytes")
    refused(checks.checked(lambda b, m: believed(b, m, no_bool=False)), "True")
    refused(checks.checked(lambda b, m: (b["payload"], b["examples"])), "KeyError")
    refused(checks.checked(lambda b, m: believed(b, m - 1)), "raised ValueError")
    refused(checks.checked(lambda b, m: believed(b, 10)), "raised ValueError")
    refused(checks.checked(lambda b, m: None), "fine")
    assert checks.checked(emptied).passed


def first(seconds, wanted, enough=True, take=None):
    came = sorted((at, client) for client, at in seconds.items() if at is not None)
    if enough and len(came) < wanted:
        raise ValueError(f"{len(came)} came, {wanted} wanted")
    came = came[: take or wanted]
    return {client for _, client in came}, came[-1][0]


def test_first_answers():
    assert checks.first_answers(first).passed
    refused(checks.first_answers(lambda s, w: first(s, w, enough=False)), "never answers")
    refused(checks.first_answers(lambda s, w: first(s, w, take=9)), "2 wanted")
    refused(checks.first_answers(lambda s, w: (first(s, w)[0], 9.0)), "3.0 s")
    refused(checks.first_answers(until), "three come at 2.0 s")


def until(seconds, wanted):
    _, last = first(seconds, wanted)
    return {client for client, at in seconds.items() if at is not None and at <= last}, last


def shares(records, every=False):
    asked, heard = {}, {}
    for record in records:
        for client in record.cohort:
            asked[client] = asked.get(client, 0) + 1
            heard[client] = heard.get(client, 0) + (client not in record.left_out)
    return {client: heard[client] / (len(records) if every else asked[client]) for client in asked}


def test_in_the_mean():
    assert checks.in_the_mean(shares).passed
    refused(checks.in_the_mean(lambda r: shares(r, every=True)), "the others do not count")
    refused(checks.in_the_mean(lambda r: dict.fromkeys(shares(r), 1.0)), "client 2")
    refused(checks.in_the_mean(lambda r: {0: 1.0}), "0 to 3")
    refused(checks.in_the_mean(lambda r: pd.Series(shares(r))), "a dict", "got Series")
    rounded = lambda r: {c: round(s, 2) for c, s in shares(r).items()}  # noqa: E731
    refused(checks.in_the_mean(rounded), "do not round")
    refused(checks.in_the_mean(lambda r: {c: s for c, s in shares(r).items() if s}), "in vain")
    refused(checks.in_the_mean(lambda r: dict.fromkeys(shares(r), math.nan)), "nan")


def record(number, **left_out):
    left_out = {int(name[1:]): why for name, why in left_out.items()}
    return RoundRecord(number, (0, 1), 0, 0, {}, left_out, 0, 0, 0.0)


def test_forgotten():
    why = "ValueError: what this client keeps of round 1 is lost: its node was started anew"
    verdict = checks.forgotten([record(1), record(2, c1="no answer in time"), record(3, c1=why)])
    assert verdict.passed
    assert "round 3" in verdict.message
    refused(checks.forgotten([record(1), record(2, c1="no answer in time")]), "no answer in time")
    refused(checks.forgotten([record(1)]), "None")
    refused(checks.forgotten([]), "no round was finished", "more seconds")
    late = [record(number, c0="late", c1="late") for number in (1, 2)]
    refused(checks.forgotten(late), "nobody was ever in time")
    refused(checks.forgotten([{"round": 1}]), "list of records")
