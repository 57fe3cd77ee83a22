"""Random pipelines: partitions of equal fingerprints have equal records."""

import functools
import random
import traceback

import dask
import dask.bag as db
import numpy as np
import pytest
from dask import delayed
from dask.bag import Bag

from agatha_ckpt import CheckpointError
from agatha_ckpt._dask.fingerprint import fingerprints_of
from tests.dask.fingerprint_cases import Holder, capturing

SQUARE = np.arange(4).reshape(2, 2)


def pair(x, y=0):
    return x, y


def listed(x, y=1):
    return [x, y]


def each(part, a=None, k=0):
    return [(record, a, k) for record in part]


def whole(part, a=None, k=0):
    return [len(list(part)), a, k]


def twice(part):
    """Return other records for a list than for a lazy partition, or an array."""
    kinds = list, tuple, np.ndarray
    return part * 2 if isinstance(part, kinds) else list(part)


def lengths(part):
    return np.array([len(str(record)) for record in part])


def kind(x):
    return type(x).__name__


def start(x, n=0):
    return repr(x)[n : n + 2]


def joined(a, b, n=0):
    return f"{a}{b}{n}"


def wrapped(x):
    return [x]


# Few and alike, so that many pipelines have equal parts.
VALUES = [
    *(0, 1, True, 1.0, -0.0, 0.0, "a", b"a", None, ("x", 0), ["x", 0], "a-b"),
    *((1, 2), [1, 2], [[1], 2], [1, [2]], {1, 2}, frozenset({1}), [(pair, 1)]),
    *({"a": 1, "b": 2}, {"b": 2, "a": 1}, ["a-b", "c"], ["a", "b-c"], SQUARE, SQUARE.T),
]


class Pipeline:
    """A bag of a few random steps.

    Parameters
    ----------
    seed : int
    changed : int, optional
        The number of a choice that is another one than without it.
    """

    def __init__(self, seed, changed=None):
        self.random = random.Random(seed)
        self.choices, self.changed = 0, changed
        bag = self.choice(self.sources())()
        for _ in range(self.random.randrange(4)):
            bag = self.choice(self.steps(bag))()
        self.bag = bag

    def choice(self, options):
        place = self.random.randrange(len(options)) + (self.choices == self.changed)
        self.choices += 1
        return options[place % len(options)]

    def value(self):
        return self.choice(VALUES)

    def function(self):
        value = self.value()
        partial = functools.partial
        holder = Holder(**{self.choice("ab"): value})
        return self.choice(
            [pair, listed, partial(pair, y=value), capturing(value), holder.method, str]
        )

    def key(self):
        return self.choice([kind, str, functools.partial(start, n=self.choice([0, 1]))])

    def fold(self):
        return self.choice([joined, functools.partial(joined, n=1)])

    def sources(self):
        value = self.value
        return [
            lambda: db.from_sequence(
                [value(), value()], npartitions=self.choice([1, 2])
            ),
            lambda: db.range(self.choice([3, 4]), npartitions=2),
            lambda: db.from_delayed(
                [delayed(each)([value()], value(), k=value()) for _ in range(2)]
            ),
            lambda: db.from_delayed([delayed([value(), delayed(pair)(value())])]),
            self.by_hand,
        ]

    def by_hand(self):
        tasks = [
            (each, [1], self.value()),
            (list, (filter, None, [1, 0, self.value()])),
            [self.value(), (pair, self.value())],
            (listed, ("y", 0), self.value()),
            ("y", 1),
        ]
        return Bag(
            {
                ("x", 0): self.choice(tasks),
                ("x", 1): self.choice(tasks),
                ("y", 0): self.choice([1, 2, [1]]),
                ("y", 1): [5, self.value()],
            },
            "x",
            2,
        )

    def doubled(self, bag):
        arrays = bag.map_partitions(lengths)
        lists = arrays.map_partitions(list)
        return self.choice([arrays, lists]).map_partitions(twice)

    def steps(self, bag):
        value, function, choice = self.value, self.function, self.choice
        return [
            lambda: bag.map(function()),
            lambda: bag.map(function()).map(function()),
            lambda: bag.map(pair, value()),
            lambda: bag.map(pair, y=value()),
            lambda: bag.map(pair, bag.map(function())),
            lambda: bag.map(pair, y=bag.map(function())),
            lambda: bag.map(choice([pair, listed]), bag.count()),
            lambda: bag.map(choice([pair, listed]), y=bag.count()),
            lambda: bag.map_partitions(each, value()),
            lambda: bag.map_partitions(whole, k=value()),
            lambda: bag.map_partitions(each, bag.count()),
            lambda: bag.map_partitions(
                each, delayed(pair)(value()), k=delayed([delayed(listed)(value())])
            ),
            lambda: bag.map_partitions(choice([list, tuple, lengths])),
            lambda: self.doubled(bag),
            lambda: bag.starmap(pair, y=choice([value(), bag.count()])),
            lambda: choice([bag.filter, bag.remove])(capturing(value())),
            lambda: db.concat([bag, bag.map(function())]),
            lambda: db.zip(bag, bag.map(function())),
            lambda: bag.repartition(choice([1, 2, 3])),
            lambda: bag.product(bag) if bag.npartitions < 3 else bag,
            lambda: bag.groupby(self.key(), shuffle=choice(["disk", "tasks"])),
            lambda: as_bag(bag.fold(self.fold(), initial=choice([0, ""]))),
            lambda: bag.foldby(self.key(), self.fold(), choice([0, ""])),
            lambda: bag.distinct(key=self.key()),
            lambda: bag.accumulate(self.fold(), initial=choice([0, ""])),
            lambda: bag.join([value(), 1], self.key()),
            lambda: bag.map(str).frequencies(sort=choice([True, False])),
            lambda: bag.map(str).topk(choice([1, 2]), key=choice([len, str])),
            lambda: bag.map(str).pluck(choice([0, -1]), choice([0, "z"])),
            lambda: bag.random_sample(0.5, random_state=choice([1, 2])),
            lambda: bag.flatten(),
            lambda: bag.take(choice([1, 2]), npartitions=-1, compute=False, warn=False),
            lambda: db.from_delayed(
                bag.to_delayed(optimize_graph=choice([True, False]))
            ),
        ]


def as_bag(item):
    return db.from_delayed([delayed(wrapped)(item)])


def shown(value):
    """Return a text that tells values of different type or content apart."""
    name = type(value).__name__
    if isinstance(value, list | tuple):
        return f"{name}[{', '.join(map(shown, value))}]"
    if isinstance(value, set | frozenset):
        return f"{name}{sorted(map(shown, value))}"
    if isinstance(value, dict):
        return f"{name}{[shown(item) for item in value.items()]}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.tolist()}"
    return name if callable(value) else f"{name}:{value!r}"


def pipelines(seeds):
    """Yield the pipeline of each seed, and those that differ from it in a choice."""
    for seed in seeds:
        count, place = 1, -1
        while place < count:
            try:
                pipeline = Pipeline(seed, place)
            except KeyError as error:  # dask cannot fuse tasks in a circle
                if traceback.extract_tb(error.__traceback__)[-1].name != "fuse":
                    raise
            else:
                count = pipeline.choices if place < 0 else count
                yield seed, pipeline
            place += 1


def check(seeds):
    records, equal = {}, 0
    for seed, pipeline in pipelines(seeds):
        bag = pipeline.bag
        try:
            known = fingerprints_of(bag, version=None, format="msgpack")
        except CheckpointError:
            continue  # a value that is equal to the key of its own task
        tasks = dict(bag.dask)
        for index, partition in enumerate(known.partitions[:12]):
            try:
                found = shown(list(dask.get(tasks, (bag.name, index))))
            except Exception:
                continue  # the functions do not take all values
            equal += partition in records
            assert records.setdefault(partition, found) == found, (seed, index)
    return len(records), equal


def test_equal_fingerprints_have_equal_records():
    different, equal = check(range(20))
    assert different > 200
    assert equal > 40


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_equal_fingerprints_have_equal_records_in_many_pipelines():
    different, equal = check(range(2_000))
    assert different > 20_000
    assert equal > 2_000
