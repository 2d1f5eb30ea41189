"""What compression costs in time: python tests/benchmarks/codec_time.py

In rounds of 10 out of 20 clients, one after the other in one thread, the seconds that encoding and
decoding take of each round: on the client (error feedback decodes what it sends, to know what was
lost) and on the server. The codecs take turns, round by round, in one run.

Nothing else should be running. The table goes to data/results/codec_time.csv.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from fedlab_helpers.core import rounds as federated
from fedlab_helpers.core.compute import intra_op_threads
from fedlab_helpers.core.messages import Codec
from fedlab_helpers.studies import results
from fedlab_helpers.studies.compression import CODECS, RUN
from fedlab_helpers.studies.study import begin

TIMED = (
    "touched rows",
    "4 bits, zstd",
    "ternary, zstd",
    "top 10% sign, EF, momentum",
    "top 1% sign, EF, momentum",
    "rank 1, EF",
    "rank 1 in signs, EF",
)


class Stopwatch:
    """The seconds spent in a codec since `read` was last called."""

    def __init__(self, codec: Codec):
        self.spent = 0.0
        self.codec = codec

    def of(self, name: str):
        """Return the codec's method, timed."""
        method = getattr(self.codec, name)

        def timed(*args, **options):
            began = time.perf_counter()
            result = method(*args, **options)
            self.spent += time.perf_counter() - began
            return result

        return timed

    def read(self) -> float:
        """Return the seconds since the last call."""
        spent, self.spent = self.spent, 0.0
        return spent


def timed_codec(codec: Codec, watch: Stopwatch) -> Codec:
    """Return a codec of the same class whose work the watch sees once: what a client packs, and
    what the server decodes."""
    kind = type(codec)
    if hasattr(codec, "pack"):
        members = {"pack": staticmethod(watch.of("pack"))}
    else:
        members = {"encode": staticmethod(watch.of("encode"))}
    members["decode"] = staticmethod(watch.of("decode"))
    made = object.__new__(type(kind.__name__, (kind,), members))
    made.__dict__.update(vars(codec))
    return made


def rounds(codec: Codec, count: int) -> Iterator[tuple[float, float]]:
    """Yield the seconds of each round, and those spent in the codec."""
    watch = Stopwatch(codec)
    run = begin(replace(RUN, partition="iid", rounds=count + 1))
    for record in federated.rounds(*run, codec=timed_codec(codec, watch)):
        spent = watch.read()
        if record.round > 1:  # the first warms up
            yield record.seconds, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds of each codec")
    parser.add_argument("--folder", type=Path, default=results.RESULTS)
    chosen = parser.parse_args()
    rows = []
    with intra_op_threads(1):
        runs = {name: rounds(CODECS[name], chosen.rounds) for name in TIMED}
        for number in tqdm(range(chosen.rounds)):
            for name, run in runs.items():
                seconds, spent = next(run)
                timing = {"round": number + 1, "seconds": seconds, "codec_seconds": spent}
                rows.append({"codec": name, **timing, **results.versions()})
    results.write(chosen.folder / "codec_time.csv", rows)
    for name in TIMED:
        shares = sorted(r["codec_seconds"] / r["seconds"] for r in rows if r["codec"] == name)
        print(f"{name:28s} {shares[len(shares) // 2]:6.1%} of a round")


if __name__ == "__main__":
    main()
