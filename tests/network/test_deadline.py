"""How long a round waits."""

from fedlab_helpers.network.deadline import FACTOR, FIRST, FLOOR, LATE, ROUNDS, Deadline


def test_a_fixed_one_stays():
    deadline = Deadline(7.0)
    deadline.answered(1, 100.0)
    assert deadline.seconds([1, 2]) == 7.0


def test_nobody_is_late_before_somebody_was_there():
    deadline = Deadline()
    assert deadline.seconds([1, 2]) == FIRST
    deadline.answered(1, 1.0)
    assert deadline.seconds([1, 2]) == FLOOR
    deadline.answered(2, 30.0)
    assert deadline.seconds([1, 2]) == FACTOR * 30.0
    deadline.missed([])
    assert deadline.seconds([1, 2]) == 12 * 30.0  # all may have become slower


def test_a_round_without_an_answer_ends_in_minutes_not_in_hours():
    deadline = Deadline()
    deadline.answered(1, 2.0)
    for late in ([], [1, 2], [1, 2], [1, 2]):
        deadline.missed(late)
        assert deadline.seconds([1, 2]) == 60.0
    deadline.answered(1, 100.0)
    deadline.missed([])
    assert deadline.seconds([1, 2]) == FIRST  # at most


def test_what_rounds_took_is_remembered_for_some_rounds():
    deadline = Deadline()
    deadline.answered(1, 30.0)
    for _ in range(ROUNDS - 1):
        deadline.missed([])
        deadline.answered(1, 1.0)
        assert deadline.seconds([1]) == FACTOR * 30.0
    deadline.missed([])
    deadline.answered(1, 1.0)
    assert deadline.seconds([1]) == FLOOR


def test_who_was_late_is_given_more_time_up_to_a_limit():
    deadline = Deadline()
    for times in (1, 2, 4, 4):
        deadline.answered(1, 10.0)
        assert deadline.seconds([1, 2]) == FACTOR * 10.0 * times
        assert deadline.seconds([1]) == FACTOR * 10.0  # others are not waited for
        deadline.missed([2])
    assert 2**LATE == 4
    deadline.answered(2, 10.0)
    assert deadline.seconds([1, 2]) == FACTOR * 10.0


def test_also_where_nobody_else_is_there():
    deadline = Deadline()
    for _ in range(4):
        assert deadline.seconds([1]) == FIRST
        deadline.missed([1])


def test_on_a_machine_ten_times_slower_the_same_nodes_are_heard():
    seconds = [[3, 4, 9], [2, 8, 5], [20, 3, 3], [4, 4, 4]]

    def heard(slower):
        deadline, found = Deadline(), []
        for each in seconds:
            times = sorted((slower * s, node) for node, s in enumerate(each))
            came = []
            for at, node in times:
                if at < deadline.seconds(range(3)):
                    deadline.answered(node, at)
                    came.append(node)
            deadline.missed({0, 1, 2} - {*came})
            found.append(sorted(came))
        return found

    assert heard(1) == heard(10) == heard(100 / 3) == [[0, 1, 2]] * 4
