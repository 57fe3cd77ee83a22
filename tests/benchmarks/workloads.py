"""The records that are saved and loaded, and bags that compute them.

Each workload is a file that workers read and parse, as a pipeline's first step does:
then every record is made anew in the process that saves it, of objects of its own.
All partitions read the same file.
"""

import json
import random
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import dask.bag

FLOATS = 768


# ---- the files ----


def _sentences(rng, count):
    words = [f"w{i}" for i in range(5000)]
    for i in range(count):
        record = {
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
        yield json.dumps(record).encode() + b"\n"


def _tuples(rng, count):
    for i in range(count):
        yield f"source {rng.randrange(10**6)}\ttarget {i}\t{rng.random()}\n".encode()


def _strings(rng, count):
    for i in range(count):
        yield f"sentence {i} of document {rng.randrange(10**6)}\n".encode()


def _vectors(rng, count):
    for _ in range(count):
        yield rng.randbytes(4 * FLOATS)


# ---- parsing them ----


def _lines(path):
    with open(path, encoding="utf-8") as file:
        yield from file


def parse_sentences(path):
    return map(json.loads, _lines(path))


def parse_tuples(path):
    for line in _lines(path):
        source, target, weight = line.split("\t")
        yield source, target, float(weight)


def parse_strings(path):
    return map(str.rstrip, _lines(path))


def parse_vectors(path):
    import numpy as np

    floats = np.dtype("f4")
    with open(path, "rb") as file:
        number = 0
        while data := file.read(4 * FLOATS):
            # A copy, which can be written to.
            yield {"id": f"pmid:{number}", "vector": np.frombuffer(data, floats).copy()}
            number += 1


@dataclass(frozen=True)
class Workload:
    """Records of one kind: *count* in a partition, packed about *size* bytes each."""

    name: str
    count: int
    size: int
    lines: object
    parse: object

    def prepared(self, root, scale):
        """Write the file that the partitions read; return the prepared workload."""
        count = max(100, int(self.count * scale))
        path = Path(root, f"{self.name}.input")
        with open(path, "wb") as file:
            file.writelines(self.lines(random.Random(1), count))
        return Prepared(self, str(path), count)


@dataclass(frozen=True)
class Prepared:
    """A workload with its file."""

    workload: Workload
    path: str
    count: int  # of records in a partition

    @property
    def name(self):
        return self.workload.name

    @property
    def in_a_block(self):
        """Return the number of records in about 64 KiB."""
        return max(1, 65_536 // self.workload.size)

    def records(self):
        """Yield the records of a partition."""
        return self.workload.parse(self.path)

    def bag(self, npartitions):
        """Return a bag whose partitions yield their records one by one."""
        numbers = dask.bag.from_sequence(range(npartitions), npartitions=npartitions)
        return numbers.map_partitions(partial(made, self.workload.parse, self.path))

    def touched(self):
        """Return what `touch` makes of a partition."""
        return sum(map(len, self.records()))


def made(parse, path, part):
    return parse(path)


WORKLOADS = {
    w.name: w
    for w in (
        Workload("sentences", 20_000, 600, _sentences, parse_sentences),
        Workload("tuples", 200_000, 35, _tuples, parse_tuples),
        Workload("strings", 200_000, 35, _strings, parse_strings),
        Workload("vectors", 4_000, 3_100, _vectors, parse_vectors),
    )
}


# ---- tasks ----


def touch(part):
    """Return a partition whose one record is the sum of the sizes of all records."""
    return [sum(map(len, part))]


def drain(part):
    """Compute every record and drop it."""
    deque(part, maxlen=0)
    return [0]


def batches(records, count):
    """Yield lists of *count* records."""
    records = iter(records)
    while batch := list(islice(records, count)):
        yield batch
