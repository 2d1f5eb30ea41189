"""How fast small models are: python tests/benchmarks/model_speed.py

The trained model in PyTorch, in ONNX Runtime, and smaller ones, one thread each, taking turns in
one run: one review of median length at a time, and a batch of 256. Ratios are of medians. Then, in
a process of its own for each, how much memory it takes at its peak to load the model and answer one
review (Linux).

Nothing else should be running. The table goes to data/results/model_speed.csv.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tqdm import tqdm

from fedlab_helpers.shrinking.onnx_model import to_onnx
from fedlab_helpers.studies import results
from fedlab_helpers.studies.shrinking import RECIPES, stored
from fedlab_helpers.studies.study import task
from fedlab_helpers.tasks.reviews.model import SentimentLSTM

CONTENDERS = (
    "whole, PyTorch",
    "whole",
    "whole, dynamic int8",
    "whole, 8 bits",
    "whole, 4 bits",
    "4000 words, cut",
    "table of rank 8, cut",
    "16 units, cut",
    "4000 words, 16 wide, 32 units",
    "4000 words, 16 wide, 32 units, 8 bits",
    "4000 words, 16 wide, 32 GRU units",
    "all words, rank 8, 16 units, 4 bits",
    "4000 words, rank 8, 16 units, 8 bits",
    "4000 words, rank 8, 16 units, 4 bits",
    "2000 words, rank 8, 16 units, 8 bits",
)
MEASURE = """
import re, sys
def kib(name):
    with open("/proc/self/status") as status:
        return int(re.search(name + r":\\s+(\\d+)", status.read())[1])
def begin():
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak begins anew
    return kib("VmRSS")
def end(before):
    print(1024 * (kib("VmHWM") - before), 1024 * before)
"""
MEMORY = {  # each has its libraries loaded, and has run a tiny model, before
    "torch": """
import torch
from fedlab_helpers.tasks.reviews.model import SentimentLSTM
torch.set_num_threads(1)
def made(rows, size):
    return SentimentLSTM(rows, size, size, pooling="mean").eval()
made(3, 4)(torch.tensor([[2, 1]]), torch.tensor([2]))
before = begin()
state = torch.load(sys.argv[1])
model = made(*state["embedding.weight"].shape)
model.load_state_dict(state)
with torch.inference_mode():
    model(torch.ones(1, 30, dtype=torch.int64), torch.tensor([30]))
end(before)
""",
    "onnx": """
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
def session(path):
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
tokens = {"tokens": numpy.ones((1, 30), dtype=numpy.int64)}
tiny = session(sys.argv[2])
tiny.run(None, tokens)
before = begin()
whole = session(sys.argv[1])
whole.run(None, tokens)
end(before)
""",
}


def runner(content: bytes, in_torch: torch.nn.Module | None) -> Callable[[np.ndarray], object]:
    """Return a function of tokens, (B, T), that answers."""
    if in_torch is not None:
        model = in_torch.eval()

        @torch.inference_mode()
        def answer(tokens: np.ndarray) -> object:
            ids = torch.from_numpy(tokens)
            return model(ids, (ids != 0).sum(1))

        return answer
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda tokens: session.run(None, {"tokens": tokens})


def seconds(answer: Callable[[np.ndarray], object], tokens: np.ndarray, repeats: int) -> float:
    """Return the seconds of one call, the mean of a few."""
    began = time.perf_counter()
    for _ in range(repeats):
        answer(tokens)
    return (time.perf_counter() - began) / repeats


def take_turns(
    answers: dict[str, Callable], inputs: dict[str, tuple[np.ndarray, np.ndarray]], turns: int
) -> dict[str, list[float]]:
    """Return the median seconds of each for one review and for a batch, in an order that is new
    in each turn."""
    times, order = {name: ([], []) for name in answers}, np.random.default_rng(0)
    for turn in tqdm(range(turns + 5), desc="timing"):
        for name in order.permutation([*answers]).tolist():
            for tokens, repeats, so_far in zip(inputs[name], (10, 1), times[name], strict=True):
                answers[name](tokens)  # what the one before left in the caches is not its fault
                taken = seconds(answers[name], tokens, repeats)
                so_far.extend([taken] if turn >= 5 else [])  # the first warm up
    return {name: [statistics.median(each) for each in both] for name, both in times.items()}


def memory(content: bytes, kind: str) -> tuple[int, int]:
    """Return the bytes that the model took at its peak, and those of the libraries before."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("model", "tiny")]
        tiny = to_onnx(SentimentLSTM(3, 4, 4, pooling="mean"), None).SerializeToString()
        for path, each in zip(paths, (content, tiny), strict=True):
            path.write_bytes(each)
        command = [sys.executable, "-c", MEASURE + MEMORY[kind], *map(str, paths)]
        runs = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(5)]
    figures = [tuple(map(int, run.split())) for run in runs]
    return tuple(int(statistics.median(column)) for column in zip(*figures, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=300, help="timed turns of each model")
    parser.add_argument("--folder", type=Path, default=results.RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    lengths = task().test.lengths
    (typical,) = (lengths == lengths.median()).nonzero()[:1, 0].tolist()
    models = {name: RECIPES[name](0) for name in tqdm(CONTENDERS, desc="training")}
    files = {name: stored(small)[0] for name, small in models.items()}
    answers, inputs = {}, {}
    for name, small in models.items():
        answers[name] = runner(files[name], small.model if small.stored == "torch" else None)
        test = small.view(task().test)
        one = test.tokens[typical : typical + 1, : int(lengths[typical])]
        inputs[name] = one.numpy().copy(), test.tokens[:256].numpy().copy()
    times = take_turns(answers, inputs, chosen.turns)
    rows = []
    for name in CONTENDERS:
        grown, before = memory(files[name], "torch" if name.endswith("PyTorch") else "onnx")
        one, many = times[name]
        figures = {"bytes": len(files[name]), "one_review_s": one, "batch_256_s": many}
        sizes = {"memory_bytes": grown, "runtime_bytes": before}
        rows.append({"model": name, **figures, **sizes, **results.versions()})
    results.write(chosen.folder / "model_speed.csv", rows)
    for row in rows:
        faster = rows[0]["one_review_s"] / row["one_review_s"]
        print(f"{row['model']:42s} {row['bytes']:9,} bytes, {faster:4.1f} × as fast for one review")


if __name__ == "__main__":
    main()
