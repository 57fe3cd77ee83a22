"""T2: damaged, exchanged and hostile files, and what comes of them at every level.

What is allowed: the right records, or a documented error. The tests of the codec and
the format have the decoders for themselves; here are the store, a computed bag,
`verify`, and what heals.
"""

import contextlib
import json
import pickle
import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import dask
import dask.bag
import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    CorruptCheckpointError,
)
from agatha_ckpt._format.agatha import decode_legacy_manifest, decode_pickle
from agatha_ckpt._format.codec import decode_partition
from agatha_ckpt._format.framing import Header
from agatha_ckpt._format.manifest import Manifest, decode_manifest, encode_manifest
from tests.format.test_agatha import write_legacy
from tests.format.test_format import (
    array_block,
    manifest_body,
    partition_file,
    sealed,
)
from tests.reliability import damage

DAMAGE = Path(damage.__file__)
NAME = "a"
FORMS = {
    "msgpack": {"compression": None},
    "zstd": {"compression": "zstd"},
    "text": {"textfile": True},
}


@pytest.fixture(autouse=True)
def _in_this_process():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def figures(record_property):
    """Counts outcomes; says at the end how many there were of each."""
    counted = Counter()
    yield counted
    line = ", ".join(f"{n:,} {outcome}" for outcome, n in sorted(counted.items()))
    record_property("figures", line)
    print(f"{counted.total():,} cases: {line}")


class Saved:
    """A done checkpoint of two partitions in memory, whose files can be damaged."""

    def __init__(self, root, records=(("one", 1), ("two", 2)), form="msgpack"):
        options = dict(FORMS[form])
        self.textfile = options.pop("textfile", False)
        records = [str(r) if self.textfile else r for r in records]
        self.records = records
        self.store = CheckpointStore(root, fsync=False)
        self.checkpointer = Checkpointer(self.store, verbose=False, **options)
        self.bag = dask.bag.from_sequence(records, npartitions=2)
        self.save()
        self.fs, self.folder = fsspec.url_to_fs(str(self.store.path(NAME)))
        self.whole = self.files()

    def save(self):
        self.checkpointer.checkpoint(NAME, self.bag, textfile=self.textfile)

    def repair(self):
        self.checkpointer.repair(NAME, self.bag)

    def files(self):
        paths = self.fs.ls(self.folder, detail=False)
        return {p.rsplit("/", 1)[1]: self.fs.cat_file(p) for p in sorted(paths)}

    def name(self, index):
        return sorted(self.whole)[1 + index]  # after the done marker

    def put(self, filename, data):
        self.fs.pipe_file(f"{self.folder}/{filename}", data)

    def reset(self):
        """Put back the files that it had at first, and no others."""
        for filename in self.files().keys() - self.whole.keys():
            self.fs.rm_file(f"{self.folder}/{filename}")
        for filename, data in self.whole.items():
            self.put(filename, data)

    def load(self):
        return self.checkpointer.checkpoint(NAME).compute()

    def partition(self, index):
        manifest = self.store.manifest(NAME)
        info = manifest.partitions[index]
        return self.store.open_partition(NAME, manifest.plan, index, info)

    def first(self, index):
        """Return the first record of a partition, as `take` and `head` read it."""
        return [next(iter(self.partition(index)))]

    def damaged(self):
        return [found.index for found in self.store.verify(NAME)]


@pytest.fixture
def memory():
    """A root in memory."""
    url = f"memory://{uuid.uuid4().hex}"
    yield url
    files = fsspec.filesystem("memory").store
    for path in [path for path in files if url.removeprefix("memory:/") in path]:
        del files[path]


def outcome_of(do, right):
    """Return "right", or the name of the documented error; fail on all else."""
    try:
        found = do()
    except CheckpointError as error:
        found, message = type(error).__name__, str(error)
    else:
        assert found == right
        return "right"
    assert f"{NAME!r}" in message
    return found


def heals(saved):
    """Whether giving the bag, or else `repair`, brings the records back."""
    saved.save()
    if outcome_of(saved.load, saved.records) != "right":
        saved.repair()
    return saved.load() == saved.records and saved.damaged() == []


# ---- every truncation, every flipped bit, bytes added: at every level ----


@pytest.mark.parametrize("form", FORMS)
def test_p5_every_damage_to_a_partition_raises_is_named_and_heals(
    memory, form, figures
):
    saved = Saved(memory, form=form)
    filename = saved.name(0)
    data = saved.whole[filename]
    accidents = (damage.truncations, damage.flips, damage.additions)
    for accident in accidents:
        for number, changed in enumerate(accident(data)):
            saved.put(filename, changed)
            # What comes after the first record need not be seen with it.
            first = outcome_of(lambda: saved.first(0), saved.records[:1])
            assert first in ("right", "CorruptCheckpointError"), changed
            for read in (lambda: list(saved.partition(0)), saved.load):
                assert outcome_of(read, None) == "CorruptCheckpointError", changed
            assert saved.damaged() == [0], changed
            figures[f"{accident.__name__} raise"] += 1
            if number % 25 == 0:
                assert heals(saved), changed
                figures["healed"] += 1
                saved.reset()


def test_p5_every_damage_to_a_done_marker_raises_and_the_bag_heals(memory, figures):
    saved = Saved(memory)
    data = saved.whole["__done__"]
    accidents = (damage.truncations, damage.flips, damage.additions)
    for accident in accidents:
        for number, changed in enumerate(accident(data)):
            saved.put("__done__", changed)
            assert outcome_of(saved.load, saved.records) == "CorruptCheckpointError"
            assert not saved.store.is_done(NAME)
            with pytest.raises(CorruptCheckpointError):
                saved.store.verify(NAME)
            figures[f"{accident.__name__} raise"] += 1
            if number % 100 == 0:
                assert heals(saved)
                figures["healed"] += 1
                saved.reset()


@pytest.mark.parametrize("text", [False, True])
def test_p5_every_flip_in_a_legacy_marker_loads_the_same_or_raises(
    tmp_path, text, figures
):
    partitions = [["x"], ["y"]]
    write_legacy(tmp_path / NAME, partitions, text)
    marker = tmp_path / NAME / "__done__"
    sizes = {p.name: p.stat().st_size for p in (tmp_path / NAME).glob("part-*")}
    data = marker.read_bytes()
    checkpointer = Checkpointer(tmp_path, verbose=False, allow_pickle=True)

    def load():
        return checkpointer.checkpoint(NAME).compute()

    for number, changed in enumerate(damage.flips(data)):
        try:
            found = decode_legacy_manifest(changed, sizes, NAME)
        except CorruptCheckpointError:
            figures["raise"] += 1
        else:  # a folder of the path, which is ignored
            assert [p.file for p in found.partitions] == sorted(sizes)
            figures["right"] += 1
        if number % 10 == 0:
            marker.write_bytes(changed)
            outcome = outcome_of(load, ["x", "y"])
            assert outcome in ("right", "CorruptCheckpointError")


def test_p5_a_legacy_partition_that_is_cut_or_changed_raises_nothing_undocumented(
    figures,
):
    """It has no checksum, so that what was changed may load as something else."""
    data = pickle.dumps([("a", {2}), {"k": b"v", 2: 1.5}], protocol=4)
    for changed in damage.truncations(data):
        with pytest.raises(CorruptCheckpointError):
            decode_pickle(BytesIO(changed), NAME)
        figures["truncations raise"] += 1
    undocumented = Counter()
    for changed in damage.flips(data):
        try:
            decode_pickle(BytesIO(changed), NAME)
            figures["flips load, as they may"] += 1
        except CheckpointError:
            figures["flips raise"] += 1
        except Exception as error:
            undocumented[repr(error)] += 1
    assert not undocumented


# ---- files that are whole, in the wrong place ----


def _swap(saved, other):
    first, second = saved.name(0), saved.name(1)
    saved.put(first, saved.whole[second])
    saved.put(second, saved.whole[first])


def _duplicate(saved, other):
    saved.put(saved.name(1), saved.whole[saved.name(0)])


def _of_other(index=0):
    def put(saved, other):
        saved.put(saved.name(index), other.whole[other.name(index)])

    return put


def _all_of_other(saved, other):
    for index in range(2):
        saved.put(saved.name(index), other.whole[other.name(index)])


def _marker_of_other(saved, other):
    saved.put("__done__", other.whole["__done__"])


def _empty_marker(saved, other):
    saved.put("__done__", b"")


SAME, LONGER = (("uno", 1), ("dos", 2)), (("three", 3), ("four and more", 4))
EXCHANGES = {
    "partitions swapped": (_swap, SAME, [0, 1]),
    "a partition twice": (_duplicate, SAME, [1]),
    "a file of another run, of one size": (_of_other(), SAME, [0]),
    "a file of another run, of another size": (_of_other(1), LONGER, [1]),
    "all files of another run": (_all_of_other, SAME, [0, 1]),
    "a marker of another run": (_marker_of_other, SAME, [0, 1]),
    "an empty marker": (_empty_marker, SAME, None),
}


@pytest.mark.parametrize("form", FORMS)
def test_p5_files_in_the_place_of_others_are_named_and_heal(memory, form, figures):
    for number, (change, records, damaged) in enumerate(EXCHANGES.values()):
        saved = Saved(f"{memory}-{number}", form=form)
        change(saved, Saved(f"{memory}-{number}-other", records, form))
        assert outcome_of(saved.load, None) == "CorruptCheckpointError"
        if damaged is not None:
            assert saved.damaged() == damaged
        assert heals(saved)
        figures["raise and heal"] += 1


def test_p5_the_first_record_is_never_that_of_another_runs_file(memory):
    """Of the same partition, plan and size, so that only the digest differs."""
    saved = Saved(memory)
    other = Saved(f"{memory}-other", SAME)
    _of_other()(saved, other)
    bag = saved.checkpointer.checkpoint(NAME)
    assert outcome_of(lambda: list(bag.take(1)), None) == "CorruptCheckpointError"
    assert outcome_of(lambda: [saved.partition(0)[0]], None) == "CorruptCheckpointError"


def test_a_file_of_another_run_with_the_same_records_is_right(memory):
    saved, other = Saved(memory), Saved(f"{memory}-other")
    _all_of_other(saved, other)
    assert saved.load() == saved.records
    assert saved.damaged() == []


@pytest.mark.parametrize("form", FORMS)
def test_p5_files_of_another_plan_or_form_under_the_right_name_raise(memory, form):
    saved = Saved(memory, form=form)
    others = [partition_file([array_block([saved.records[0]])], "deadbeef", 0, 2)]
    for number, other_form in enumerate(FORMS.keys() - {form}):
        # The same records: what differs is how they are stored.
        other = Saved(f"{memory}-{number}", form=other_form)
        others.append(other.whole[other.name(0)])
    for other in [*others, b"", saved.whole["__done__"]]:
        saved.put(saved.name(0), other)
        assert outcome_of(saved.load, saved.records) == "CorruptCheckpointError"
        assert saved.damaged() == [0]
        assert heals(saved)
        saved.reset()


def test_p5_verify_names_and_repair_heals_a_large_object_that_is_shorter_now(s3):
    """Of an object over 16 MiB, parts are read; a server refuses what is beyond it."""
    checkpointer = Checkpointer(s3.new_root(), verbose=False, compression=None)
    big = ["a" * 1_000_000 + str(i) for i in range(18)]
    bag = dask.bag.from_sequence(big, npartitions=1)
    for kept in (-1, 8 << 20, 100, 0):
        checkpointer.checkpoint(NAME, bag)
        path = str(checkpointer.store.path(NAME))
        (info,) = checkpointer.store.manifest(NAME).partitions
        data = s3.fs.cat_file(f"{path}/{info.file}")
        s3.fs.pipe_file(f"{path}/{info.file}", data[:kept])
        load = checkpointer.checkpoint(NAME).compute
        assert outcome_of(load, big) == "CorruptCheckpointError"
        assert [d.index for d in checkpointer.store.verify(NAME)] == [0]
        assert checkpointer.repair(NAME, bag).compute() == big


# ---- hostile checkpoints, whose checksums are right ----


def _judge(first, step):
    """Return name and finding of each case; start anew after one that kills."""
    found, errors = [], ""
    while True:
        command = [sys.executable, str(DAMAGE), str(first), str(step)]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        begun = [line for line in lines if "name" in line]
        ended = [line for line in lines if "outcome" in line]
        assert lines, done.stderr
        found += [(b["name"], e) for b, e in zip(begun, ended, strict=False)]
        if len(begun) > len(ended):
            errors = done.stderr.strip()[-300:]
            faults = [("hanging", f"ends the process: {errors}")]
            killed = {"outcome": "killed", "peak": 0, "faults": faults}
            found.append((begun[-1]["name"], killed))
        if not begun or begun[-1]["number"] + step >= lines[0]["cases"]:
            assert done.returncode == 0 or len(begun) > len(ended), done.stderr
            return found
        first = begun[-1]["number"] + step


@pytest.fixture(scope="module")
def judged():
    with ThreadPoolExecutor(2) as pool:
        return [f for part in pool.map(_judge, (0, 1), (2, 2)) for f in part]


HOSTILE = {
    "errors": "raise documented errors only",
    "records": "load as values of the format, as many as are counted",
    "code": "run nothing, and open nothing outside the root",
    "memory": "take less than 256 MB, whatever they state",
    "hanging": "neither hang nor kill",
    "verify": "are named by verify where they do not load, and nowhere else",
    "healing": "are healed by the bag, by repair, and by clear",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_p8_hostile_checkpoints(judged, kind, figures):
    """P5, P6, P8: see `HOSTILE` for what is demanded of them."""
    faults = []
    for name, found in judged:
        figures[found["outcome"]] += 1
        faults += [f"{name}: {text}" for what, text in found["faults"] if what == kind]
    shown = "\n".join(faults)
    assert not faults, f"not all {HOSTILE[kind]}, but:\n{shown}"


def test_p5_a_sealed_manifest_of_any_depth_is_read_or_refused(figures):
    """Just below the depth that cannot be parsed is one that cannot be written."""
    text = json.dumps(manifest_body([], [], [], []))
    for member in ('"version": null', '"format_version": 1', '"parents": []'):
        assert member in text
        key, _ = member.split()
        for depth in range(800, 1_050):
            nested = text.replace(member, f"{key} {'[' * depth}{']' * depth}")
            try:
                decode_manifest(sealed(nested.encode()), NAME)
                figures["read"] += 1
            except CheckpointError:
                figures["refused"] += 1


def test_p8_a_hostile_partial_does_not_stand_in_the_way_of_the_bag(tmp_path):
    """The next run keeps what is whole, or computes it: it does not fail for ever."""
    saved = Saved(str(tmp_path))
    plan = saved.store.manifest(NAME).plan.digest
    for seconds in (float("nan"), float("inf"), -1e308):
        saved.checkpointer.clear(NAME)
        blocks = [array_block([list(saved.records[0])])]
        data = partition_file(blocks, plan, 0, 2, seconds=seconds)
        (tmp_path / NAME).mkdir()
        (tmp_path / NAME / saved.name(0)).write_bytes(data)
        saved.save()
        assert [tuple(r) for r in saved.load()] == saved.records


# ---- random edits ----

_edits = st.lists(
    st.tuples(
        st.sampled_from(
            ["overwrite", "insert", "delete", "repeat", "swap", "splice", "cut"]
        ),
        st.integers(0, 1_000),
        st.integers(0, 40),
        st.binary(min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=4,
)
BLOCKS = [
    (1, 2, b"\x92\x92\xc7\x00\x9c\x01\x91\x02"),  # (1,), [2]
    (4, 2, b"\xdd\0\0\0\2\x92\xa3one\x01\x92\xa3two\x02"),
]
PLAIN = partition_file(BLOCKS, "0123abcd", 0, 2, bag=b"bag")
COMPRESSED = damage.compressed_file(BLOCKS[::-1], "0123abcd", 0, 2)
MARKERS = [
    encode_manifest(
        decode_manifest(damage.checkpoint_files(records=[n, 1])["__done__"], NAME)
    )
    for n in (1, 2)
]


def decoded(data):
    blocks = decode_partition(
        BytesIO(data),
        len(data),
        Header("0123abcd", 0, 2),
        allow_pickle=False,
        where=NAME,
    )
    return [record for records in blocks for record in records]


def _check_edited_partition(edits, compressed):
    data, other = (COMPRESSED, PLAIN) if compressed else (PLAIN, COMPRESSED)
    changed = damage.edited(data, edits, other)
    with contextlib.suppress(CheckpointError):
        assert decoded(changed) in (decoded(PLAIN), decoded(COMPRESSED))
        assert changed in (PLAIN, COMPRESSED)
    # The same edits of a payload, under checksums that are right.
    flags, count, payload = BLOCKS[compressed]
    payload = damage.edited(payload, edits, BLOCKS[not compressed][2])
    resealed = partition_file([(flags, count, payload)], "0123abcd", 0, 2)
    with contextlib.suppress(CheckpointError):
        assert damage.stranger(decoded(resealed)) is None


def _check_edited_manifest(edits, resealed):
    data, other = MARKERS
    changed = damage.edited(data, edits, other)
    if resealed:
        body = data[len('{"manifest":') : -len(',"seal":""}\n') - 64]
        changed = sealed(damage.edited(body, edits, other))
    try:
        found = decode_manifest(changed, NAME)
    except CheckpointError:
        return
    assert resealed or changed in MARKERS
    # A run that repairs such a checkpoint writes what it has read.
    again = Manifest(found.plan, found.partitions)
    assert decode_manifest(encode_manifest(again), NAME).partitions == found.partitions


def _check_edited_legacy_marker(edits):
    data = b"/mnt/gone/a/part-0.pkl\n/mnt/gone/a/part-1.pkl\n"
    sizes = {"part-0.pkl": 5, "part-1.pkl": 6}
    with contextlib.suppress(CheckpointError):
        found = decode_legacy_manifest(damage.edited(data, edits, data), sizes, NAME)
        assert [p.file for p in found.partitions] == sorted(sizes)


@settings(max_examples=2_000, derandomize=True, deadline=None, database=None)
@given(_edits, st.booleans())
def test_p5_an_edited_partition_raises_or_is_what_it_was(edits, compressed):
    _check_edited_partition(edits, compressed)


@settings(max_examples=2_000, derandomize=True, deadline=None, database=None)
@given(_edits, st.booleans())
def test_p5_an_edited_manifest_raises_or_is_what_it_was(edits, resealed):
    _check_edited_manifest(edits, resealed)
    _check_edited_legacy_marker(edits)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_p5_200_000_edits_of_a_partition_and_of_a_manifest():
    @settings(max_examples=200_000, deadline=None, database=None)
    @given(_edits, st.booleans())
    def check(edits, flag):
        _check_edited_partition(edits, flag)
        _check_edited_manifest(edits, flag)
        _check_edited_legacy_marker(edits)

    check()
    print("200,000 edits of each decoder: 0 silent, 0 undocumented")
