"""Our secure sum beside Flower's SecAgg+: python tests/benchmarks/flower_secagg.py

Both sum the same vectors, in one process and one thread; each pair of clients has a mask. Flower's
clients are its `secaggplus_mod` and its server is its `SecAggPlusWorkflow`, with its defaults, a
quantization range of 2^22 and a modulus of 2^32. A masking step begins with floats and ends with
bytes: it rounds, opens shares and agrees on seeds. Times are of the processor, medians over clients
and rounds.

The last two lines count the bits of a seed, of 256, that can change its mask. They hold for the
version that is installed, not for Flower in general. In 1.42.0 `pseudo_rand_gen` joins the seed's
words of four bytes by XOR, and seeds NumPy's RandomState with the 32 bits that come out. The seed
of a pair is base64 text, whose bytes are all below 128, so only 28 bits can differ. Others have
reported the 32 bits: https://github.com/flwrlabs/flower/issues/7522
"""

import argparse
import copy
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from functools import partial, reduce
from importlib.metadata import version
from itertools import chain, pairwise
from operator import or_, xor
from statistics import median
from types import SimpleNamespace

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition, parameters_mod
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.supercore.primitives.asymmetric import generate_key_pairs
from flwr.supercore.task_identity import TaskIdentity

from fedlab_helpers.core.compute import numpy_rng
from fedlab_helpers.core.require import require
from fedlab_helpers.privacy.secure import Client, FixedPoint, Server, masks

VALUES = 768_834  # of the course's model
CLIP, RANGE, MODULUS, EXAMPLES = 8.0, 2**22, 2**32, 1000  # Flower's defaults; all clients alike
GRID = 2 * CLIP / RANGE  # the distance of its levels
WORD = 4  # bytes


def draw(n_clients: int, n_values: int) -> dict[int, np.ndarray]:
    """Return node -> (d,) float32 on the grid of Flower's levels, so that it rounds nothing."""
    levels = numpy_rng(0).integers(0, RANGE, (n_clients, n_values))
    return dict(enumerate(np.float32(levels * GRID - CLIP), start=1))


def threshold(n_clients: int) -> int:
    """Return how many clients it takes to remove masks."""
    return n_clients // 2 + 1


class Cohort:
    """Flower's clients, in the place of its grid: its workflow asks, its mod answers.

    Attributes:
        seconds: of each client's masking step.
        sent: bytes of a masked vector.
    """

    def __init__(self, vectors: dict[int, np.ndarray]):
        # Messages ask where they are made.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in vectors}
        done = Status(Code.OK, "")
        self.trained = {
            n: fitres_to_recorddict(FitRes(done, ndarrays_to_parameters([v]), EXAMPLES, {}), True)
            for n, v in vectors.items()
        }
        self.seconds, self.sent = [], 0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None):
        """Return the clients' answers."""
        return [self.answer(message) for message in messages]

    def answer(self, message: Message) -> Message:
        """Return what one client answers."""
        node = message.metadata.dst_node_id
        message.content = copy.deepcopy(message.content)  # a client changes what it got
        stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        began = time.process_time()
        answer = secaggplus_mod(message, self.contexts[node], self.train)
        if stage == Stage.COLLECT_MASKED_VECTORS:
            self.seconds.append(time.process_time() - began)
            sent = answer.content.config_records[RECORD_KEY_CONFIGS][Key.MASKED_PARAMETERS]
            self.sent = sum(map(len, sent))
        return answer

    def train(self, message: Message, context: Context) -> Message:
        """Return a client's vector, as its training would."""
        return Message(self.trained[context.node_id], reply_to=message)


def flower_sum(vectors: dict[int, np.ndarray]) -> tuple[int, list[float], int]:
    """Return how many values of the sum are wrong, the seconds of each client, and the bytes of a
    vector."""
    cohort, nothing = Cohort(vectors), [np.zeros(1, np.float32)]
    asked = FitIns(ndarrays_to_parameters(nothing), {})
    strategy = SimpleNamespace(
        configure_fit=lambda *_: [(SimpleNamespace(node_id=n), asked) for n in vectors],
        aggregate_fit=lambda _, results, failures: (results[0][1].parameters, {}),
    )
    context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), strategy=strategy)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    context.state.array_records[MAIN_PARAMS_RECORD] = ArrayRecord(nothing)
    SecAggPlusWorkflow(1.0, threshold(len(vectors)), max_weight=EXAMPLES)(cohort, context)
    (mean,) = context.state.array_records[MAIN_PARAMS_RECORD].to_numpy_ndarrays()
    wrong = np.rint(mean * len(vectors) / GRID) != sum(np.rint(v / GRID) for v in vectors.values())
    return int(wrong.sum()), cohort.seconds, cohort.sent


def our_sum(vectors: dict[int, np.ndarray], bits: int) -> tuple[int, list[float], int]:
    """Return the same of our secure sum."""
    least, coding = threshold(len(vectors)), FixedPoint(bits, len(vectors), CLIP, EXAMPLES)
    server, clients = Server(least), {n: Client(n, least) for n in vectors}
    roster = server.announce({n: client.advertise() for n, client in clients.items()})
    inboxes = server.deliver({n: client.share(roster) for n, client in clients.items()})
    expected, seconds = 0, []
    for n, client in clients.items():
        began = time.process_time()
        encoded = coding.encode(vectors[n], EXAMPLES, numpy_rng(n))
        masked = client.mask(inboxes[n], encoded)
        sent = masked.tobytes()
        seconds.append(time.process_time() - began)
        expected = encoded + expected
        server.add(n, masked)
    survivors = server.survivors()
    total = server.unmask({n: clients[n].unmask(survivors) for n in survivors})
    return int((total != expected).sum()), seconds, len(sent)


def flower_mask(seed: bytes, n_values: int) -> np.ndarray:
    """Return the mask, (d,) int64, that Flower makes of a seed."""
    (mask,) = pseudo_rand_gen(seed, MODULUS, [(n_values,)])
    return mask


def our_mask(seed: bytes, n_values: int) -> np.ndarray:
    """Return the mask, (d,) uint32, that we make of a seed."""
    mask = np.zeros(n_values, np.uint32)
    masks.add_mask(mask, seed)
    return mask


def fold(seed: bytes) -> bytes:
    """Return the XOR of a seed's words."""
    return bytes(reduce(xor, seed[place::WORD]) for place in range(WORD))


def seed_bits(mask: Callable[[bytes, int], np.ndarray]) -> int:
    """Return how many of 256 independent changes to a seed of 32 bytes change its mask.

    Each starts from another seed. 32 flip a bit of the first word; 224 flip a bit of the first word
    and the same bit of another, so that the XOR of the words stays.
    """
    changed = 0
    for word in range(masks.KEY_BYTES // WORD):
        for bit in range(8 * WORD):
            seed = int.from_bytes(secrets.token_bytes(masks.KEY_BYTES), "little")
            other = seed ^ (1 << bit | 1 << bit + 8 * WORD * word)
            one, two = (mask(s.to_bytes(masks.KEY_BYTES, "little"), 8) for s in (seed, other))
            changed += not np.array_equal(one, two)
    return changed


def pair_bits(pairs: int = 64) -> int:
    """Return how many bits of the folded seed vary from pair to pair of Flower's clients. Raises
    ValueError where another seed with the same XOR of its words makes another mask."""
    folded = []
    for _ in range(pairs):
        (private, _), (_, public) = generate_key_pairs(), generate_key_pairs()
        seed = generate_shared_key(private, public)
        folded.append(fold(seed))
        same = np.array_equal(flower_mask(seed, 8), flower_mask(folded[-1], 8))
        require(same, "flwr", version("flwr"), "one whose masks depend on the XOR of the seed")
    words = [int.from_bytes(word, "little") for word in folded]
    return reduce(or_, (word ^ words[0] for word in words)).bit_count()


def mask_seconds(n_masks: int, n_values: int) -> tuple[float, float, float]:
    """Return the seconds of so many masks alone: Flower's, and ours of 32 and of 16 bits."""
    seeds = [secrets.token_bytes(masks.KEY_BYTES) for _ in range(n_masks)]
    levels = numpy_rng(0).integers(0, RANGE, n_values, np.int32)
    began, masked = [time.process_time()], [levels]
    for seed in seeds:
        masked = parameters_addition(masked, [flower_mask(seed, n_values)])
    parameters_mod(masked, MODULUS)
    for dtype in (np.uint32, np.uint16):
        began.append(time.process_time())
        vector = levels.astype(dtype)
        for seed in seeds:
            masks.add_mask(vector, seed)
    return tuple(end - start for start, end in pairwise([*began, time.process_time()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--values", type=int, default=VALUES)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.WARNING)
    size = chosen.clients, chosen.values
    vectors = draw(*size)
    sides = [flower_sum, partial(our_sum, bits=32), partial(our_sum, bits=16)]
    rounds = [[side(vectors) for side in sides] for _ in range(chosen.rounds)]
    wrong, step, sent = (
        [[one[column] for one in side] for side in zip(*rounds, strict=True)] for column in range(3)
    )
    step = [1000 * median(chain(*side)) for side in step]
    alone = [mask_seconds(*size) for _ in range(5 * chosen.rounds)]
    alone = [1000 * median(side) for side in zip(*alone, strict=True)]
    levels = [2 * FixedPoint(bits, chosen.clients, CLIP, EXAMPLES).largest + 1 for bits in (32, 16)]
    ours = seed_bits(our_mask)
    rows = {
        "bytes sent for a value": [f"{max(side) / chosen.values:.2f}" for side in sent],
        "levels that a value can have": [f"{n:,}" for n in (RANGE + 1, *levels)],
        "wrong values of the sum": [sum(side) for side in wrong],
        "a client's masking step, ms": [f"{ms:.1f}" for ms in step],
        "    Flower's : ours": ["", *(f"{step[0] / ms:.1f}" for ms in step[1:])],
        "    of it, masks alone, ms": [f"{ms:.1f}" for ms in alone],
        "    Flower's : ours, alone": ["", *(f"{alone[0] / ms:.1f}" for ms in alone[1:])],
        "seed bits of its own mask": [seed_bits(flower_mask), ours, ours],
        "seed bits of a pair's mask": [pair_bits(), ours, ours],
    }
    print("{} clients, {:,} values, {} rounds".format(*size, chosen.rounds))
    heads = [f"Flower {version('flwr')}", "ours, 32 bits", "ours, 16 bits"]
    for label, cells in {"": heads, **rows}.items():
        print(f"{label:29s}", *(f"{cell:>15}" for cell in cells))


if __name__ == "__main__":
    main()
