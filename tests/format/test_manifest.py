"""Done markers: their bytes, and what a reader refuses."""

import json
import tracemalloc

import dask.bag as db
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agatha_ckpt import (
    Checkpointer,
    CorruptCheckpointError,
    Plan,
    UnsupportedFormatError,
)
from agatha_ckpt._format.done_marker import decode_manifest, encode_manifest
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._format.names import partition_filename
from tests.format.specification import (
    FINGERPRINT,
    array_block,
    canonical,
    filename,
    sealed,
    sha256,
    write_checkpoint,
)
from tests.format.values import load

hexadecimal = st.sampled_from("0123456789abcdef")
texts = st.text(max_size=9)
parents = st.lists(st.tuples(texts, texts), max_size=3).map(sorted).map(tuple)
plans = st.builds(
    Plan,
    st.integers(0, 20),
    st.sampled_from(["msgpack", "text"]),
    st.none() | texts,
    parents,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=4,
)


def entry(index, digest, suffix="msgpack", fingerprint=FINGERPRINT):
    name = partition_filename(index, fingerprint, "00000000", "", suffix)
    return PartitionInfo(name, 1, 9, digest, fingerprint=fingerprint)


@st.composite
def manifests(draw):
    plan = draw(plans)
    digits = st.text(hexadecimal, min_size=32, max_size=32)
    suffix = {"msgpack": "msgpack", "text": "txt"}[plan.format]
    infos = []
    for index in range(plan.npartitions):
        fingerprint, size = draw(digits), draw(st.integers(0, 2**63 - 1))
        name = partition_filename(index, fingerprint, "00000000", "", suffix)
        counts = draw(st.integers(0, size)), size, draw(digits), draw(st.floats(0, 1e9))
        code = draw(st.sampled_from(["", "parse=01234567", "größe=89abcdef"]))
        classes = draw(st.sampled_from([(), (), ("Term",), ("Größe", "Term.Kind")]))
        rest = draw(st.booleans()), fingerprint, code, classes
        infos.append(PartitionInfo(name, *counts, *rest))
    metadata = draw(st.dictionaries(st.text(max_size=3), json_values, max_size=3))
    opaque = tuple(draw(st.lists(texts, max_size=2)))
    return Manifest(plan, tuple(infos), draw(texts), metadata, "1", "2026.1", opaque)


@given(manifests())
def test_a_manifest_comes_back_from_one_line_of_sealed_json(manifest):
    data = encode_manifest(manifest)
    found = decode_manifest(data, "x")
    assert found == manifest
    assert found.id == manifest.id
    assert found.files == manifest.files
    assert data.count(b"\n") == 1
    assert data.isascii()
    document = json.loads(data)
    assert data == sealed(document["checkpoint"])
    digests = [info.digest for info in manifest.partitions]
    content = [manifest.plan.format, digests]
    assert document["checkpoint"]["id"] == sha256(canonical(content), 32)


def test_an_id_depends_on_the_content_and_on_nothing_else():
    def identity(plan, digests):
        entries = tuple(entry(i, digest) for i, digest in enumerate(digests))
        return Manifest(plan, entries).id

    a, b = "a" * 32, "b" * 32
    labelled = Plan(2, version="v", parents=(("x", "y"),))
    same = [identity(Plan(2), [a, b]), identity(labelled, [a, b])]
    others = [identity(Plan(2), [b, a]), identity(Plan(1), [a]), identity(Plan(0), [])]
    others += [identity(Plan(3), [a, b, b]), identity(Plan(2, "text"), [a, b])]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 1 + len(others)


def test_a_decoded_manifest_takes_hardly_more_room_than_its_bytes():
    entries = (entry(index, f"{index:032x}") for index in range(2_000))
    data = encode_manifest(Manifest(Plan(2_000), tuple(entries)))
    tracemalloc.start()
    manifest = decode_manifest(data, "x")
    assert manifest.records == 2_000
    assert manifest.bytes == 9 * 2_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(data)
    assert manifest.partitions[-1] == manifest.partitions[1_998:][1]
    assert manifest.partitions[7].digest == f"{7:032x}"


def test_a_file_may_be_another_partition_than_when_it_was_written():
    entries = tuple(entry(index, "0" * 32) for index in (1, 0))
    manifest = Manifest(Plan(2), entries)
    assert decode_manifest(encode_manifest(manifest), "x") == manifest


# ---- damage ----


def test_p5_every_truncation_and_flip_of_a_done_marker_is_an_error():
    whole = encode_manifest(Manifest(Plan(1), (entry(0, "0" * 32),), "a"))
    assert decode_manifest(whole, "x").name == "a"
    cut = [whole[:length] for length in range(len(whole))]
    flipped = [
        whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :]
        for i in range(len(whole))
        for bit in range(8)
    ]
    added = [whole + b"\n", whole + whole, b"\n" + whole, b" " + whole]
    for changed in (*cut, *flipped, *added):
        with pytest.raises(CorruptCheckpointError, match="the done marker of x "):
            decode_manifest(changed, "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}",
        b"null",
        b'{"checkpoint":,"seal":""}\n',
        b'{"checkpoint":{},"seal":""}\n',
        sealed(b"{}"),
        sealed(b"[" * 100_000),
        b"\xff" * 200,
    ],
    ids=lambda data: repr(data[:30]),
)
def test_p5_other_bytes_are_a_corrupt_manifest(data):
    with pytest.raises(CorruptCheckpointError, match="the done marker of x "):
        decode_manifest(data, "x")


def test_other_versions_of_the_format_are_told_from_damage(tmp_path):
    write_checkpoint(tmp_path / "newer", [[array_block([1])]], format_version=2)
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        load(tmp_path, "newer")
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "__done__").write_bytes(b'{"manifest":{},"seal":""}\n')
    with pytest.raises(UnsupportedFormatError, match="clear it, or recompute"):
        load(tmp_path, "older")


# ---- hostile writers, whose seals are right ----

FILE = filename(0)
OTHER_FILES = [
    *["../x", f"../{FILE}", f"/etc/{FILE}", f"sub/{FILE}", f"./{FILE}"],
    *[f"..\\{FILE}", f"{FILE}\n", f" {FILE}", f"memory://{FILE}", "__done__", ""],
    FILE.replace("part-00000", "part-0"),
    FILE.replace("part-00000", "part-" + "\u0660" * 5),
    FILE.replace("part-00000", "part-0000000000"),
    *[FILE.replace(".msgpack", ".txt"), FILE.replace(".msgpack", ".pkl")],
    *["part-0.pkl", None, 5, ["part"]],
]
NESTED = json.loads("[" * 900 + "]" * 900)
OTHER_TYPES = {
    "format_version": [True, 1.0, None, "1", NESTED],
    "name": [None, 1, NESTED],
    "plan.npartitions": [True, 1.0, None, "1", -1, 2],
    "plan.format": [None, 1, NESTED, "pickle", "parquet"],
    "plan.version": [1, True, {}, NESTED],
    "parents": [1, [["x", 1]], [[NESTED, "1"]], [["x"]]],
    "id": [None, "0" * 32],
    "metadata": [None, 1, [], "x"],
    "scheme": [None, 1],
    "dask": [None, 1],
    "opaque": [None, 1, [1], NESTED],
    "created": [None, 1, NESTED],
    "library": [None, 1, NESTED],
    "token": [None, 1, NESTED, ""],
    "codes": [None, 1, [], [1], NESTED],
    "partitions.file": [*OTHER_FILES, NESTED],
    "partitions.records": [True, 1.0, -1, "1", 2**63],
    "partitions.bytes": [True, 9.0, -1, "9", 2**63],
    "partitions.digest": [None, "", "0" * 31, "G" * 32, f"{0:032}\n", float("nan")],
    "partitions.seconds": [True, -1, float("nan"), float("inf"), "1", None],
    "partitions.holds_pickle": [0, 1, "", None],
    "partitions.code": [True, -1, 1, 0.0, None, "0"],
}


@pytest.mark.parametrize("member", OTHER_TYPES)
def test_p5_a_sealed_manifest_with_another_value_anywhere_is_corrupt(member):
    info = entry(0, "0" * 32)
    body = json.loads(encode_manifest(Manifest(Plan(1), (info,))))["checkpoint"]
    assert decode_manifest(sealed(body), "x").partitions == (info,)
    *outer, key = member.split(".")
    place = body[outer[0]] if outer else body
    for value in OTHER_TYPES[member]:
        place[key] = [value] if outer == ["partitions"] else value
        text = json.dumps(body).encode()
        with pytest.raises(CorruptCheckpointError, match="the done marker of x "):
            decode_manifest(sealed(text), "x")


def test_p5_a_manifest_that_names_one_file_twice_is_corrupt():
    info = entry(0, "0" * 32)
    data = encode_manifest(Manifest(Plan(2), (info, info)))
    with pytest.raises(CorruptCheckpointError, match="one file for two partitions"):
        decode_manifest(data, "x")


def test_p6_clear_removes_nothing_outside_the_folder_whatever_the_marker_names(
    tmp_path,
):
    victim = tmp_path / "root" / "victim"
    write_checkpoint(tmp_path / "root" / "a", [[array_block([1])]])
    victim.write_bytes(b"mine")
    marker = tmp_path / "root" / "a" / "__done__"
    body = json.loads(marker.read_bytes())["checkpoint"]
    body["partitions"]["file"] = ["../victim"]
    marker.write_bytes(sealed(body))
    (tmp_path / "root" / "a" / "part-0.pkl").write_bytes(b"")
    Checkpointer(tmp_path / "root").clear("a")
    assert victim.read_bytes() == b"mine"
    assert not marker.exists()


@pytest.mark.parametrize("form", ["msgpack", "text"])
@pytest.mark.parametrize("records", [0, 10**14])
def test_p5_a_list_makes_no_room_for_records_that_only_the_manifest_has(
    tmp_path, form, records
):
    checkpointer = Checkpointer(tmp_path, verbose=False)
    bag = db.from_sequence(["x" * 50], npartitions=1)
    checkpointer.checkpoint("a", bag, textfile=form == "text", scheduler="sync")
    marker = tmp_path / "a" / "__done__"
    body = json.loads(marker.read_bytes())["checkpoint"]
    body["partitions"] |= {"records": [records]}
    if form == "text":  # read without its size
        body["partitions"]["bytes"] = [10**14]
    else:
        (size,) = body["partitions"]["bytes"]
        body["partitions"]["records"] = [min(records, size * 4096)]
    marker.write_bytes(sealed(json.dumps(body).encode()))
    tracemalloc.start()
    with pytest.raises(CorruptCheckpointError, match="partition 0 of"):
        load(tmp_path, "a")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert [found.index for found in checkpointer.store.verify("a")] == [0]
