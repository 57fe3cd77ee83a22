"""Fingerprints tell what partitions are computed from: all of it, and nothing else."""

import csv
import functools
import json
import logging
import operator
import os
import re
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.bag as db
import fsspec
import numpy as np
import pytest
from dask import delayed
from dask._task_spec import Alias, Task, TaskRef
from dask.bag import Bag
from dask.graph_manipulation import bind as wait_for
from dask.graph_manipulation import wait_on

from agatha_ckpt import Checkpointer, CheckpointError
from agatha_ckpt._dask.fingerprint import fingerprints_of
from agatha_ckpt._run.decision import edited_steps
from tests.dask import fingerprint_cases as cases
from tests.dask.fingerprint_cases import Holder, add, even, numbers, parse

needs_pandas = pytest.mark.skipif(not cases.HAS_PANDAS, reason="pandas is missing")
dask_warns = pytest.mark.filterwarnings("ignore:The inplace keyword")

if cases.HAS_PANDAS:
    from tests.dask.fingerprint_collections import every_collection


def known_of(bag, version=None, format="msgpack"):
    return fingerprints_of(bag, version=version, format=format)


def of(bag):
    return known_of(bag).partitions


def function_of(source, name="step", **module):
    """Return the function *name* of a module with this source."""
    module = {"__name__": "pipeline", **module}
    exec(textwrap.dedent(source), module)
    return module[name]


def processes(seeds, folder):
    """Return what processes with these hash seeds print of all cases."""

    def run(seed):
        return subprocess.run(
            [sys.executable, "-m", "tests.dask.fingerprint_cases", str(folder)],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    with ThreadPoolExecutor(2) as pool:
        return [json.loads(output) for output in pool.map(run, seeds)]


def check_processes(seeds, folder):
    expected = cases.fingerprints(folder)
    assert len(expected) > 100
    for found in processes(seeds, folder):
        assert found == expected
    opaque = {name: known[2] for name, known in expected.items() if known[2]}
    assert opaque == {}


@needs_pandas
@dask_warns
def test_a_changed_input_of_a_collection_changes_the_fingerprint(tmp_path):
    for change, make in every_collection(tmp_path).items():
        before, again, after = (of(make(x)) for x in (1, 1, 2))
        assert before == again, change
        assert set(before) != set(after), change


@needs_pandas
@dask_warns
def test_files_of_a_collection_count_by_path(tmp_path):
    makes = every_collection(tmp_path)
    makes = {name: make for name, make in makes.items() if "read_" in name}
    before = {name: of(make(1)) for name, make in makes.items()}
    for file in tmp_path.rglob("*.*"):
        if file.is_file():
            file.write_bytes(file.read_bytes())
            os.utime(file, (1e9, 1e9))
    assert {name: of(make(1)) for name, make in makes.items()} == before


@dask_warns
def test_fingerprints_are_equal_in_processes_with_other_hash_seeds(tmp_path):
    check_processes([1], tmp_path)


@pytest.mark.long
@dask_warns
def test_fingerprints_are_equal_in_twenty_processes(tmp_path):
    check_processes(range(20), tmp_path)


def test_the_partitions_of_each_kind_of_bag_differ(tmp_path):
    found = {}
    for name, bag in cases.bags(tmp_path).items():
        for partition in of(bag):
            found.setdefault(partition, set()).add(name)
    same = set().union(*(names for names in found.values() if len(names) > 1))
    # These hold the same numbers, and no task to compute them, or the same tasks.
    assert same == {
        "clone",
        "map",
        "from_sequence",
        "loaded and persisted",
        "more partitions",
        "persisted",
    }


ONE = numbers()
ITEM = ONE.sum()

# Two bags each whose partitions all differ.
CHANGES = {
    "a record": lambda x: db.from_sequence([[x, 2]]),
    "the type of a record": lambda x: db.from_sequence([{"a": (x, str(x))[x > 1]}]),
    "the function": lambda x: ONE.map([add, even][x - 1]),
    "an argument": lambda x: ONE.map(add, x),
    "a keyword argument": lambda x: ONE.map(add, y=x),
    "the name of a keyword": lambda x: ONE.map_partitions(parse, **{f"key{x}": 1}),
    "positional or keyword": lambda x: ONE.map(add, 1) if x > 1 else ONE.map(add, y=1),
    "an item": lambda x: ONE.map(add, ONE.map(add, x).sum()),
    "a keyword bag": lambda x: ONE.map(add, y=ONE.map(add, x)),
    "another bag": lambda x: ONE.map(add, ONE.map(add, x)),
    "the order of bags": lambda x: db.zip(*[ONE, ONE.map(add)][:: -1 if x > 1 else 1]),
    "an item or its value": lambda x: ONE.map(add, ITEM if x > 1 else ITEM.compute()),
    "a captured value": lambda x: ONE.map(lambda r: r + x),
    "a captured bag": lambda x: ONE.map(holding([numbers(x)])),
    "a captured delayed": lambda x: ONE.map(holding({"a": delayed(parse)([x])})),
    "what is waited for": lambda x: wait_for(ONE.map(add), ONE.map(add, x)),
    "what else is waited for": lambda x: wait_on(ONE.map(add), ONE.map(add, x))[0],
    "a captured array": lambda x: ONE.map(
        (lambda array: lambda r: array)(np.full((2, 2), x))
    ),
    "a partial": lambda x: ONE.map(functools.partial(add, y=x)),
    "the object of a method": lambda x: ONE.map(Holder(a=x).method),
    "a callable object": lambda x: ONE.map(Holder(a=x)),
    "a predicate": lambda x: ONE.filter(functools.partial(operator.lt, x)),
    "filter or remove": lambda x: ONE.filter(even) if x > 1 else ONE.remove(even),
    "a starmap keyword": lambda x: db.zip(ONE).starmap(add, y=x),
    "a delayed argument": lambda x: db.from_delayed([delayed(parse)([x])]),
    "a delayed function": lambda x: db.from_delayed(
        [delayed([parse, sorted][x - 1])([1])]
    ),
    "a delayed attribute": lambda x: db.from_delayed(
        [getattr(delayed(Holder)(a1=[], a2=[]), f"a{x}")]
    ),
    "a delayed literal": lambda x: db.from_delayed([delayed([x])]),
    "a path": lambda x: db.read_text(f"memory://fingerprint/{x}.txt"),
    "a url": lambda x: db.from_url(f"http://localhost/{x}"),
    "a range": lambda x: db.range(x, npartitions=1),
    "what is plucked": lambda x: ONE.map(str).pluck(x),
    "a fold": lambda x: as_bag(ONE.fold(add, initial=x)),
    "the key of topk": lambda x: ONE.topk(2, key=functools.partial(operator.mod, x)),
    "the key of distinct": lambda x: ONE.distinct(key=functools.partial(add, y=x)),
    "a grouper": lambda x: ONE.groupby(functools.partial(add, y=x), shuffle="tasks"),
    "groups in tasks or on disk": lambda x: ONE.groupby(
        even, shuffle=["disk", "tasks"][x - 1]
    ),
    "the other side of a join": lambda x: ONE.join([x], on_self=even),
    "a foldby": lambda x: ONE.foldby(even, add, x),
    "an accumulation": lambda x: ONE.accumulate(add, initial=x),
    "a product": lambda x: ONE.product(numbers(x)),
    "the size of partitions": lambda x: numbers(x).repartition(4),
    "a seed": lambda x: ONE.random_sample(0.5, random_state=x),
    "a persisted bag": lambda x: ONE.map(add, x).persist(scheduler="sync").map(even),
    "a fused bag": lambda x: db.from_delayed(ONE.map(add, x).map(even).to_delayed()),
    "nested lists": lambda x: ONE.map(add, [[1, 2], [3]] if x > 1 else [[1], [2, 3]]),
    "a transposed array": lambda x: ONE.map(
        add, np.arange(4).reshape(2, 2) if x > 1 else np.arange(4).reshape(2, 2).T
    ),
    "dicts in other order": lambda x: ONE.map(
        add, {"a": 1, "b": 2} if x > 1 else {"b": 2, "a": 1}
    ),
    "a call or a tuple": lambda x: graph_bag(
        {"x": (parse, [(sum, [1])]) if x > 1 else Task("x", parse, [(sum, [1])])}
    ),
}


def as_bag(item):
    return db.from_delayed([item.to_delayed()])


@pytest.fixture(scope="module", autouse=True)
def _texts():
    files = fsspec.filesystem("memory")
    for name in "12":
        files.pipe(f"/fingerprint/{name}.txt", b"a\nb\n")
    yield
    files.rm("/fingerprint", recursive=True)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_input_changes_the_fingerprint(change):
    before, again, after = (CHANGES[change](x) for x in (1, 1, 2))
    assert of(before) == of(again)
    assert set(of(before)).isdisjoint(of(after))


def test_the_version_and_the_format_are_part_of_it():
    found = {
        known_of(ONE, version, name).partitions[0]
        for version in (None, "", "None", "1", "2")
        for name in ("msgpack", "text")
    }
    assert len(found) == 10


def test_an_input_that_was_removed_leaves_the_others_as_they_are():
    names = ["a", "b", "c", "d"]
    before = db.from_sequence(names, npartitions=4).map(str.upper)
    after = db.from_sequence(["a", "c", "d"], npartitions=3).map(str.upper)
    assert of(after) == tuple(of(before)[i] for i in (0, 2, 3))


def test_parents_in_another_order_keep_their_partitions():
    one, two = ONE.map(add, 1), ONE.map(add, 2)
    assert sorted(of(db.concat([one, two]))) == sorted(of(db.concat([two, one])))


EQUAL = {
    "random keys": lambda x: db.from_delayed(
        [delayed(parse)([1], dask_key_name=f"key-{x}"), delayed(parse, pure=False)([2])]
    ),
    "optimised or not": lambda x: db.from_delayed(
        ONE.map(add, 1).filter(even).map(add, y=ITEM).to_delayed(optimize_graph=x > 1)
    ),
    "memory layout": lambda x: ONE.map(
        add, np.array([[1, 2], [3, 4]], order="C" if x > 1 else "F")
    ),
    "strides": lambda x: ONE.map(
        add, np.arange(8)[::2] if x > 1 else np.arange(0, 8, 2)
    ),
    "order in a set": lambda x: ONE.map(add, set([8, 16][:: -1 if x > 1 else 1])),
    "order in a set of tasks": lambda x: graph_bag(
        {"x": (parse, (set, ["y", "z"][:: -1 if x > 1 else 1])), "y": 1, "z": 2}
    ),
    "shared or equal": lambda x: ONE.map(add, [ONE_LIST, ONE_LIST if x > 1 else [1]]),
}
ONE_LIST = [1]


@pytest.mark.parametrize("change", EQUAL)
def test_what_is_not_an_input_does_not_change_the_fingerprint(change):
    assert of(EQUAL[change](1)) == of(EQUAL[change](2))


def test_the_temporary_folder_of_a_groupby_does_not_count(tmp_path):
    plain = of(ONE.groupby(even, shuffle="disk"))
    with dask.config.set(temporary_directory=str(tmp_path)):
        assert of(ONE.groupby(even, shuffle="disk")) == plain


def test_credentials_do_not_count():
    from s3fs import S3FileSystem

    def bag(**options):
        files = S3FileSystem(skip_instance_cache=True, **options)
        return ONE.map(add, files)

    plain = bag(endpoint_url="http://a", key="a", secret="b")
    other = bag(
        client_kwargs={"endpoint_url": "http://a", "aws_session_token": "c"},
        token="d",
        use_listings_cache=False,
    )
    assert of(plain) == of(other) != of(bag(endpoint_url="http://b"))


# Functions


def test_edited_code_keeps_the_fingerprint_and_changes_the_code():
    before = function_of("def step(x): return x + 1")
    moved = function_of("\n\n# moved\ndef step(x):\n    return x + 1")
    edited = function_of("def step(x): return x + 2")
    known, same, other = (known_of(ONE.map(f)) for f in (before, moved, edited))
    assert known.partitions == same.partitions == other.partitions
    assert known.codes == same.codes != other.codes


def test_the_program_has_one_name_in_the_processes_that_it_starts():
    """Where multiprocessing imports it again, as ``__mp_main__``."""
    source = "class Options: pass\ndef parse(x, options=Options): return x"
    found = set()
    for name in ("__main__", "__mp_main__", "pipeline"):
        names = {"__name__": name}
        exec(source, names)
        made = fingerprints_of(
            numbers().map(names["parse"]), version=None, format="msgpack"
        )
        found.add((made.partitions, made.codes))
    assert len(found) == 2


def test_code_that_another_python_compiled_is_not_compared():
    step = function_of("def step(x): return x + 1")
    now = known_of(ONE.map(step)).codes[0]
    before = now.replace(sys.implementation.cache_tag, "cpython-310")
    before = before.replace(now[-8:], "00000000")
    assert before != now
    assert edited_steps(before, now) == []
    assert edited_steps(now[:-8] + "00000000", now) == [now[:-9]]


def test_code_that_has_run_often_is_the_same_code():
    step = function_of("def step(x): return x + x * x - x")
    before = known_of(ONE.map(step))
    for x in range(1000):
        step(x)
    assert known_of(ONE.map(step)) == before


def test_the_codes_of_a_partition_are_its_steps():
    first = function_of("def first(x): return x", "first")
    second = function_of("def second(x): return x", "second")
    bag = ONE.map(first).filter(second).map_partitions(sorted, key=first).map(str)
    (code,) = set(known_of(bag).codes)
    names, digests = zip(*(entry.split("=") for entry in code.split(";")), strict=True)
    assert [name.split(":")[1] for name in names] == [
        "pipeline.first",
        "pipeline.second",
    ]
    assert all(len(digest) == 8 and int(digest, 16) >= 0 for digest in digests)
    assert known_of(ONE).codes == ("", "", "")


def test_the_codes_hold_what_is_captured_and_called():
    inner = function_of("def inner(x): return x", "inner")
    outer = function_of(
        """
        def make(inner):
            def outer(x):
                return inner(x)
            return outer
        """,
        "make",
    )(inner)
    for function in (outer, functools.partial(outer), functools.lru_cache(outer)):
        code = known_of(ONE.map(function)).codes[0]
        assert re.findall(r":(\S+?)=", code) == [
            "pipeline.inner",
            "pipeline.make.<locals>.outer",
        ]


def test_long_codes_are_cut_after_a_whole_entry():
    bag = ONE
    for number in range(99):
        name = f"step_{number:050}"
        bag = bag.map(function_of(f"def {name}(x): return x", name))
    code = known_of(bag).codes[0]
    assert 1900 < len(code) <= 2000
    assert all(len(entry.split("=")[1]) == 8 for entry in code.split(";"))


def test_functions_of_one_name_are_told_apart_by_their_code():
    add_one, double = (lambda x: x + 1), (lambda x: x * 2)
    bags = [ONE.map(add_one), ONE.map(double)]
    both = of(db.concat(bags))
    assert len(set(both)) == 6
    assert of(db.concat(bags[::-1])) == both[3:] + both[:3]
    assert of(ONE.map(add_one).map(double)) != of(ONE.map(double).map(add_one))


def test_many_functions_of_one_name_are_met_late():
    bags = [ONE.map(function_of(f"step = lambda x: x + {n}")) for n in range(30)]
    assert len(set(of(db.concat(bags)))) == 90


def test_a_module_that_was_loaded_twice_is_told_apart_by_what_it_holds():
    source = "def step(x): return x * RATE"
    one, two, same = (function_of(source, RATE=rate) for rate in (1, 2, 1))
    assert len(set(of(db.concat([ONE.map(one), ONE.map(two)])))) == 6
    assert len(set(of(db.concat([ONE.map(one), ONE.map(same)])))) == 3


def test_classes_of_one_name_are_told_apart_by_their_content():
    one, two = (type("Settings", (), {"rate": rate}) for rate in (1, 2))
    assert len(set(of(db.concat([ONE.map(add, one()), ONE.map(add, two())])))) == 6


def test_a_function_that_refers_to_itself_ends():
    step = function_of(
        """
        def make(start):
            def count(x):
                return start if x < 1 else count(x - 1)
            return count
        """,
        "make",
    )
    assert of(ONE.map(step(1))) == of(ONE.map(step(1))) != of(ONE.map(step(2)))


# What is not looked into


class Model:
    """Has state that pickle refuses."""

    def __init__(self, weight):
        self.weight = weight

    def __getstate__(self):
        raise TypeError("cannot pickle a model")

    def __call__(self, x):
        return x


def tag(x, nlp=None):
    return x


def holding(nlp):
    return lambda x: nlp(x)


LOCK = threading.Lock()
MODEL = Model(1)
NAME = f"{__name__}.Model"

OPAQUE = {
    "keyword of map": (
        lambda: ONE.map(tag, nlp=MODEL),
        f"argument 'nlp' of 'tag', a {NAME}",
    ),
    "argument of map": (
        lambda: ONE.map(tag, MODEL),
        f"argument 'nlp' of 'tag', a {NAME}",
    ),
    "keyword of map_partitions": (
        lambda: ONE.map_partitions(tag, nlp=MODEL),
        f"argument 'nlp' of 'tag', a {NAME}",
    ),
    "argument of map_partitions": (
        lambda: ONE.map_partitions(tag, MODEL),
        f"argument 'nlp' of 'tag', a {NAME}",
    ),
    "starmap": (
        lambda: db.zip(ONE).starmap(tag, nlp=MODEL),
        f"argument 'nlp' of 'tag', a {NAME}",
    ),
    "delayed": (
        lambda: db.from_delayed([delayed(tag, traverse=False)([1], MODEL)]),
        f"argument 'nlp' of 'tag', a {NAME}",
    ),
    "partial": (
        lambda: ONE.map(functools.partial(tag, nlp=MODEL)),
        f"argument 'nlp' of 'tag', a {NAME}",
    ),
    "captured": (
        lambda: ONE.map(holding(MODEL)),
        f"variable 'nlp' of '<lambda>', a {NAME}",
    ),
    "method": (
        lambda: ONE.map(Holder(lock=LOCK).method),
        "the object of 'Holder.method', a _thread.lock in a "
        "tests.dask.fingerprint_cases.Holder",
    ),
    "function": (lambda: ONE.map(MODEL), f"a function, a {NAME}"),
    "in a list": (
        lambda: ONE.map(tag, nlp=[LOCK]),
        "argument 'nlp' of 'tag', a _thread.lock in a list",
    ),
    "record": (
        lambda: Bag({("x", 0): [LOCK]}, "x", 1),
        "a record, a _thread.lock",
    ),
    "logger": (
        lambda: ONE.map(tag, nlp=logging.getLogger()),
        "argument 'nlp' of 'tag', a logging.RootLogger",
    ),
    "file": (
        lambda: ONE.map(holding(sys.__stdin__)),
        "variable 'nlp' of '<lambda>', a _io.TextIOWrapper",
    ),
    "generator": (
        lambda: ONE.map(holding(x for x in "ab")),
        "variable 'nlp' of '<lambda>', a generator",
    ),
    "iterator": (
        lambda: ONE.map(holding(csv.reader([]))),
        "variable 'nlp' of '<lambda>', a _csv.reader",
    ),
    "plain object": (
        lambda: ONE.map(holding(object())),
        "variable 'nlp' of '<lambda>', an object",
    ),
    "large": (
        lambda: ONE.map(holding(np.zeros(13_000_000))),
        "variable 'nlp' of '<lambda>', a numpy.ndarray (above 100 MB)",
    ),
    "nested": (
        lambda: ONE.map(holding(deep())),
        "variable 'nlp' of '<lambda>', a list (nested too deeply)",
    ),
}


def deep():
    found = []
    for _ in range(300):
        found = [found]
    return found


@pytest.mark.parametrize("kind", OPAQUE)
def test_what_is_not_looked_into_is_named(kind):
    make, expected = OPAQUE[kind]
    assert known_of(make()).opaque == (expected,)


def test_opaque_values_count_by_type():
    assert of(ONE.map(tag, Model(1))) == of(ONE.map(tag, Model(2)))
    assert of(ONE.map(tag, Model(1))) != of(ONE.map(tag, LOCK))


def test_what_is_beside_an_opaque_value_counts():
    one, two = (Holder(lock=threading.Lock(), rate=rate) for rate in (1, 2))
    assert of(ONE.map(one.method)) != of(ONE.map(two.method))


def test_each_opaque_value_is_named_once():
    bag = ONE.map(tag, nlp=MODEL).map(tag, nlp=MODEL)
    assert known_of(bag).opaque == (f"argument 'nlp' of 'tag', a {NAME}",)


def test_sentinels_of_a_module_are_not_opaque():
    source = "missing = object()\ndef step(x, default=missing): return x"
    assert known_of(ONE.map(function_of(source))).opaque == ()


class Future(TaskRef):
    """Like the futures of distributed."""


def test_futures_count_by_their_key_and_are_named():
    one, two = (Bag({("x", 0): Future(key)}, "x", 1) for key in ("a", "b"))
    assert of(one) != of(two)
    assert known_of(one.map(add)).opaque == (
        f"a value of the graph, a {__name__}.Future",
    )


# Graphs


def graph_bag(tasks):
    return Bag({("x", 0): tasks.pop("x"), **tasks}, "x", 1)


def computed(bag):
    return dask.get(dict(bag.dask), ("x", 0))


def test_a_task_that_is_missing_is_an_error():
    for task in (Task("x", parse, TaskRef("gone")), Alias("x", "gone")):
        with pytest.raises(CheckpointError, match="'gone'"):
            known_of(graph_bag({"x": task}))


def test_tasks_in_a_circle_are_an_error():
    tasks = {"x": (parse, "y"), "y": (parse, "z"), "z": (parse, "y")}
    with pytest.raises(CheckpointError, match="'y'"):
        known_of(graph_bag(tasks))


def test_what_equals_a_key_is_a_reference_where_dask_takes_it_for_one():
    def bag(value):
        return graph_bag({"x": (parse, ["y"], "y", ("y", 1)), "y": value, ("y", 1): 3})

    assert of(bag(1)) != of(bag(2))
    assert computed(bag([1])) == [[1]]

    def literal(value):
        return graph_bag({"x": Task("x", parse, ["y"], "y"), "y": value})

    assert of(literal(1)) == of(literal(2))
    assert computed(literal([1])) == ["y"]


def test_a_key_is_looked_for_by_value_as_dask_does():
    def bag(value):
        return graph_bag({"x": (parse, [True]), 1: value})

    assert of(bag(7)) != of(bag(8))
    assert computed(bag(7)) == [7]


def test_a_chain_of_thousands_of_tasks_ends():
    bag = db.from_sequence(range(3000), npartitions=3000).accumulate(add)
    assert len(set(of(bag))) == 3000


def test_it_works_at_the_bottom_of_a_deep_stack():
    def deeper(depth):
        return deeper(depth - 1) if depth else known_of(ONE.map(holding(nest(60))))

    def nest(depth):
        return [nest(depth - 1)] if depth else []

    assert deeper(700) == deeper(0)
    assert deeper(0).opaque == ()


def test_only_what_the_partitions_need_is_looked_into():
    bag = db.concat([ONE, ONE.map(tag, nlp=MODEL)])
    assert known_of(bag.take(1, compute=False)).opaque == ()


def test_nothing_is_changed_or_computed():
    value = {"a": [1, {2}]}
    bag = ONE.map(tag, nlp=value).map_partitions(parse, key=delayed(pytest.fail)("run"))
    before = dict(bag.dask)
    known_of(bag)
    assert dict(bag.dask) == before
    assert value == {"a": [1, {2}]}


# Checkpoints


def test_a_loaded_bag_counts_by_content_not_by_place(tmp_path):
    def loaded(folder, bag):
        ckpt = Checkpointer(str(tmp_path / folder), verbose=False)
        return ckpt.checkpoint("numbers", bag)

    here, there = loaded("a", ONE), loaded("b/c", ONE)
    other = loaded("d", ONE.map(add, 1))
    for step in (lambda b: b, lambda b: b.map(add), lambda b: as_bag(b.count())):
        assert of(step(here)) == of(step(there))
        assert set(of(step(here))).isdisjoint(of(step(other)))
