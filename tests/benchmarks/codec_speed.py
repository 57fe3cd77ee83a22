"""How fast the codec is against pickle: ratios, interleaved in one run.

    python -m tests.benchmarks.codec_speed

Two workloads, in process: 20,000 dict records of about 0.6 kB, as a parser hands them
out, and 200,000 tuples (str, str, float). Encoding is a whole partition file into
memory, against ``pickle.dumps`` of the list at protocol 5; decoding is the streamed
reading of it, every record touched, against ``pickle.loads``.
"""

import io
import json
import pickle
import random
import statistics
import time
from collections import defaultdict
from itertools import chain

from agatha_ckpt._format.codec import decode_partition, encode_partition
from agatha_ckpt._format.framing import Header

HEADER = Header("00000000", 0, 1)
ROUNDS = 15


def dicts(rng):
    words = [f"w{i}" for i in range(5000)]

    def record(i):
        return {
            "id": f"pmid:{i}:{rng.randrange(30)}",
            "text": " ".join(rng.choices(words, k=60)),
            "year": rng.randrange(1900, 2024),
            "score": rng.random(),
            "terms": rng.choices(words, k=14),
            "entities": [
                {"start": rng.randrange(300), "label": rng.choice(words)}
                for _ in range(4)
            ],
            "language": "en",
        }

    # Through JSON: each record gets its own strings, as records that are read have.
    return [json.loads(json.dumps(record(i))) for i in range(20_000)]


def tuples(rng):
    return [
        (f"source {rng.randrange(10**6)}", f"target {i}", rng.random())
        for i in range(200_000)
    ]


def encode(records):
    sink = io.BytesIO()
    encode_partition(records, sink, HEADER, allow_pickle=False, where="partition 0")
    return sink.getvalue()


def decode(data):
    blocks = decode_partition(
        io.BytesIO(data), len(data), HEADER, allow_pickle=False, where="partition 0"
    )
    for _ in chain.from_iterable(blocks):
        pass


def measure(name, records):
    pickled, encoded = pickle.dumps(records, protocol=5), encode(records)
    calls = {
        "pickle.dumps": lambda: pickle.dumps(records, protocol=5),
        "encode": lambda: encode(records),
        "pickle.loads": lambda: pickle.loads(pickled),
        "decode": lambda: decode(encoded),
    }
    times = defaultdict(list)
    for _ in range(ROUNDS):
        for label, call in calls.items():
            started = time.perf_counter()
            call()
            times[label].append(time.perf_counter() - started)
    for ours, theirs in (("encode", "pickle.dumps"), ("decode", "pickle.loads")):
        pairs = zip(times[theirs], times[ours], strict=True)
        ratios = sorted(a / b for a, b in pairs)
        print(
            f"{name}: {ours} is {statistics.median(ratios):.2f} times as fast as "
            f"{theirs} ({ratios[0]:.2f} to {ratios[-1]:.2f}, {ROUNDS} rounds)"
        )
    per_record = len(encoded) / len(records)
    print(f"{name}: {len(records):,} records of {per_record:.0f} bytes encoded")


if __name__ == "__main__":
    rng = random.Random(1)
    measure("dicts", dicts(rng))
    measure("tuples", tuples(rng))
