"""What labels mean: class 1 is the positive one, whatever the two are called."""

import re

import pytest

from fedlab_helpers.tasks.reviews.corpus import load_reviews, load_reviews_with_report
from fedlab_helpers.tasks.reviews.labels import in_order, require_names
from fedlab_helpers.tasks.reviews.task import load_task

PAIRS = """
    差评/好评 负面/正面 踩/赞 负/正 坏/好 差/好 不好/好 不满意/满意 不推荐/推荐 不喜欢/喜欢
    消极/积极 贬义/褒义 一星/五星 1星/5星 1分/5分 ★/★★★★★ ★☆☆/★★★ 2/10 非常不满意/非常满意
    很差/非常好 负面评价/正面评价 差/不差 中评/好评 差评/中评 negative/positive Neg/Pos
    neg./pos. dislike/like do_not_like/like bad/good No/Yes False/True thumbs-down/thumbs_up
    unhappy/happy dissatisfied/satisfied not_recommended/recommended 👎/👍 👎🏽/👍🏽 -/+
    label_negative/label_positive 0/1 0.0/1.0 差評/好評 負評/正評 負面評價/正面評價 爛/讚 壞/好
    不滿意/滿意 不喜歡/喜歡 不推薦/推薦 沒意思/有意思 錯/對 兩顆星/五顆星 1-4星/5星 1-2星/3星 1_2/3
    1-2/5 1-3/4-5 0-6/7-10 1–4星/5星 1~4星/5星 一至四星/五星 −1/+1 -1/+1 −5/5 −/+
""".split()


@pytest.mark.parametrize("pair", PAIRS)
def test_the_positive_one_is_class_1_in_whatever_order_they_come(pair):
    negative, positive = pair.split("/")
    expected = (negative, positive), True
    assert in_order(negative, positive) == in_order(positive, negative) == expected


@pytest.mark.parametrize("pair", [("甲", "乙"), ("好", "很好"), ("5星", "1分"), ("A", "B")])
def test_what_nobody_knows_is_sorted_and_called_a_guess(pair):
    assert in_order(*pair) == in_order(*pair[::-1]) == (tuple(sorted(pair)), False)


@pytest.fixture
def own(tmp_path):
    def own(good: str, bad: str, times: int = 20):
        path = tmp_path / "own.csv"
        rows = [f"房间{i}很干净,{good}\n书{i}不好,{bad}\n" for i in range(times)]
        path.write_text("text,label\n" + "".join(rows), "utf-8")
        return path

    return own


def test_the_report_says_which_class_is_which(own):
    assert str(load_reviews_with_report(own("好评", "差评"))[1]).endswith(
        "class 0 is '差评', class 1 is '好评'"
    )
    told = r"own.csv: class 0 is '乙', class 1 is '甲' \(a guess; .*say labels=\('甲', '乙'\)\)"
    with pytest.warns(UserWarning, match=told):
        report = load_reviews_with_report(own("乙", "甲"))[1]
    assert report.labels == ("乙", "甲")
    assert "a guess; if '乙' is the positive one, say labels=('甲', '乙')" in str(report)


def test_the_caller_says_what_nobody_knows(own):
    path = own("乙", "甲")
    told, report = load_reviews_with_report(path, labels=("甲", "乙"))
    assert (report.labels, report.guessed) == (("甲", "乙"), False)
    assert [review.label for review in told] == [1, 0] * 20
    with pytest.warns(UserWarning, match="a guess"):
        assert [review.label for review in load_reviews(path)] == [0, 1] * 20


def test_numbers_that_mean_the_other_way_round(own):
    told = load_reviews(own("0", "1"), labels=("1", "0"))
    assert [review.label for review in told][:2] == [1, 0]


def test_three_classes_that_are_named(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("text,label\n好,好评\n差,差评\n行,中评\n", "utf-8")
    labels = ("差评", "中评", "好评")
    assert [r.label for r in load_reviews(path, labels=labels)] == [2, 0, 1]
    assert "class 2 is '好评'" in str(load_reviews_with_report(path, labels=labels)[1])


def test_a_part_may_hold_one_class_copies_and_contradictions(tmp_path):
    path = tmp_path / "part.csv"
    for label, written in ((0, "0"), (1, "1"), (0, "差评"), (1, "好评")):
        path.write_text(f"text,label\n好,{written}\n好,{written}\n", "utf-8")
        part = load_reviews(path, labels=("差评", "好评"), clean=False)
        assert [review.label for review in part] == [label] * 2
    path.write_text("text,label\n好,差评\n好,好评\n", "utf-8")
    assert len(load_reviews(path, labels=("差评", "好评"), clean=False)) == 2


def test_what_a_part_may_not_hold_is_named(tmp_path):
    path = tmp_path / "part.csv"
    for rows, said in (
        ("好,pos\n", "line 2: the label is 'pos'; expected '差评' or '好评', as the classes are"),
        ("好,好评\n坏,0\n", "line 3: the label is '0'"),
        ("好,2\n", "line 2: the label is '2'"),
        (",好评\n", "no row holds a text"),
    ):
        path.write_text("text,label\n" + rows, "utf-8")
        with pytest.raises(ValueError, match=re.escape(said)):
            load_reviews(path, labels=("差评", "好评"), clean=False)


def test_a_whole_corpus_of_one_class_is_refused_and_told_how_a_part_is_read(own):
    path = own("好评", "好评")
    with pytest.raises(ValueError, match=r"every label is '好评'.*clean=False and labels"):
        load_reviews(path)
    with pytest.raises(ValueError, match=r"fewer than two classes.*clean=False and labels"):
        load_reviews(path, labels=("差评", "好评"))


@pytest.mark.parametrize("labels", ["ab", (), ("好",), ("好", "\u200b"), ("Pos", "pos"),
                                    {"好": 1, "坏": 0}, {"好", "坏"}])  # fmt: skip
def test_names_that_tell_nothing_apart_are_refused(labels):
    with pytest.raises(ValueError, match=r"labels: got .*expected the names of at least two"):
        require_names(labels)


def test_the_builtin_corpus_has_its_own_names():
    with pytest.raises(ValueError, match=r"labels: .* would name"):
        load_reviews(labels=("negative", "positive"))


def test_task_and_vocabulary_know_the_names_and_the_length(own):
    task = load_task(own("赞", "踩"), min_count=1, max_len=9)
    assert task.classes == task.vocab.classes == ("踩", "赞")
    assert task.vocab.max_len == 9
    small = task.vocab.first(4)
    assert (small.words, small.classes, small.max_len) == (task.vocab.words[:4], ("踩", "赞"), 9)
