"""What a node reads: its part of the run's reviews, under the names that the job gives classes."""

import pytest

from fedlab_helpers.core import state
from fedlab_helpers.core.messages import Received
from fedlab_helpers.core.plan import Plan
from fedlab_helpers.network import Job, Node
from fedlab_helpers.network.node import pack, write_reviews
from fedlab_helpers.tasks.reviews.corpus import Review

WORDS = ("好", "坏", "很")
JOB, OWN = Job(WORDS, Plan(1)), Job(WORDS, Plan(1), classes=("差评", "好评"))
PARTS = {
    "negative only": [("坏", 0), ("很坏", 0)],
    "positive only": [("好", 1), ("很好", 1)],
    "one text only": [("好", 1)] * 3,
    "a contradiction": [("好", 1), ("好", 0)],
    "half an emoji": [("好\ud83d", 1), ("好😀,\n\"'", 0)],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize(("job", "named"), [(JOB, False), (JOB, True), (OWN, False), (OWN, True)])
def test_a_node_trains_on_every_review_that_it_owns(tmp_path, part, job, named):
    reviews = [Review(text, label, "x") for text, label in part]
    (file,) = write_reviews(tmp_path, [reviews], job.classes if named else None)
    node = Node.owning(job, 0, file)
    assert node.reviews.labels.tolist() == [label for _, label in part]
    reply = node.train(1, pack(Received(state.of_model(job.new_model()))), {})
    assert (reply.failure, reply.payload is not None) == (None, True)


def test_nodes_that_name_classes_differently_are_refused_by_name(tmp_path):
    reviews = [[Review("好", 1, "x"), Review("坏", 0, "x")]]
    for classes in (("负面", "正面"), ("0", "好评"), ("好评", "踩")):
        (file,) = write_reviews(tmp_path / classes[0], reviews, classes)
        with pytest.raises(ValueError, match=r"the label is .*expected '差评' or '好评'"):
            Node.owning(OWN, 0, file)


def test_what_is_there_is_not_replaced(tmp_path):
    (file,) = write_reviews(tmp_path, [[Review("好", 1, "x")]])
    before = file.stat().st_mtime_ns
    assert write_reviews(tmp_path, [[Review("好", 1, "x")]]) == [file]  # a cell may run again
    with pytest.raises(FileExistsError, match=r"reviews0\.csv: holds something else"):
        write_reviews(tmp_path, [[Review("坏", 0, "x")]])
    assert (file.stat().st_mtime_ns, file.read_text("utf-8")) == (before, "text,label\n好,1\n")


def test_a_node_without_reviews_says_so(tmp_path):
    (file,) = write_reviews(tmp_path, [[]])
    with pytest.raises(ValueError, match="no row holds a text"):
        Node.owning(JOB, 0, file)


def test_the_names_travel_with_the_job():
    again = Job.from_json(OWN.to_json())
    assert again.classes == again.vocab.classes == ("差评", "好评")
    assert again.vocab.max_len == 64


@pytest.mark.parametrize("classes", [(), ("好",), ("好", "好"), ("1", "0"), ("0", "2")])
def test_names_that_tell_nothing_apart_or_are_other_numbers_are_refused(classes):
    with pytest.raises(ValueError, match="classes: got"):
        Job(WORDS, Plan(1), classes=classes)
