"""Names, file names, plans and manifests, as pure functions."""

import json
import pathlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agatha_ckpt import CorruptCheckpointError, InvalidNameError, Plan
from agatha_ckpt._format.manifest import (
    Manifest,
    PartitionInfo,
    decode_manifest,
    encode_manifest,
)
from agatha_ckpt._format.names import (
    DONE_MARKER,
    FileName,
    is_own_file,
    is_temporary,
    new_attempt,
    parse_filename,
    parse_text_attempt,
    partition_filename,
    temporary_filename,
    text_attempt,
    validate_name,
)
from tests.format.test_format import plan_digest, sealed

# ---- names ----

LEGAL = [
    "a",
    "0",
    "_",
    "_a",
    "__a",
    "a__",
    "__a_b",
    "A-b_c.d 1",
    "a.",
    "a..b",
    "a-",
    "a  b",
    "part-0.pkl",
    "x" * 200,
    "ह" * 66,
    "äöüß",
    unicodedata.normalize("NFC", "e\u0301"),
    "हिन्दी",
    "मराठी वाक्ये",
    "தமிழ்",
    "ไทย",
    "中文",
    "日本語",
    "한국어",
    "العربية",
    "עברית",
    "Ελληνικά",
    "русский",
    "١٢٣",
    "Ⅻ",
    "\N{MATHEMATICAL SCRIPT CAPITAL X}",
    "con",
]


@pytest.mark.parametrize("name", LEGAL)
def test_legal_names_come_back_unchanged(name, tmp_path):
    assert validate_name(name) == name
    (tmp_path / name).mkdir()  # and a filesystem takes them as one segment
    assert [path.name for path in tmp_path.iterdir()] == [name]


HOSTILE = [
    "",
    ".",
    "..",
    "...",
    "../x",
    "../../etc/passwd",
    "/abs",
    "/",
    "//host/share",
    "a/b",
    "a/",
    "a/../b",
    "a\\b",
    "\\\\host\\share",
    "C:\\a",
    "C:",
    "a\0",
    "\0",
    "a\0b",
    "a\n",
    "\na",
    "a\r",
    "a\tb",
    "\x1b[31m",
    "a\x7f",
    "a\x85b",
    "a\u2028b",
    "a\u200bb",
    "a\u202eb",
    "\ufeffa",
    "a\u00a0b",
    "a\u2003b",
    ".a",
    ".tmp-0123456789abcdef",
    "-a",
    "-rf",
    "--",
    " ",
    " a",
    "a ",
    "__done__",
    "__x__",
    "__",
    "____",
    "__हिन्दी__",
    "x" * 201,
    "ह" * 67,
    "e\u0301",
    unicodedata.normalize("NFD", "ä"),
    unicodedata.normalize("NFD", "한국어"),
    "\u0301a",
    "ि",
    "*",
    "a*",
    "a?",
    "run[1]",
    "{a,b}",
    "a#b",
    "a%2Fb",
    "a+b",
    "a::b",
    "zip::a",
    "file://a",
    "s3://bucket/a",
    "~",
    "~root",
    "$HOME",
    "a;b",
    "a|b",
    "a&b",
    "a<b",
    'a"b',
    "a'b",
    "a`b",
    "a:b",
    "a@b",
    "a=b",
    "a,b",
    "😀",
    "a\ud800",
    "\ue000",
    None,
    1,
    True,
    b"a",
    ["a"],
    ("a",),
    {"a": 1},
    pathlib.PurePath("a"),
    frozenset(),
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_p6_other_names_are_refused_in_one_printable_line(name):
    with pytest.raises(InvalidNameError) as caught:
        validate_name(name)
    message = str(caught.value)
    assert message.isprintable()
    message.encode()


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_p6_a_store_touches_nothing_for_a_name_that_is_refused(name, store, root):
    calls = (
        store.path,
        store.done_marker,
        store.status,
        store.is_done,
        store.manifest,
        store.verify,
        store.begin,
        store.clear,
        lambda name: store.write_partition(name, Plan(1), 0, [1]),
        lambda name: store.mark_done(name, Manifest(Plan(0), ())),
    )
    for call in calls:
        with pytest.raises(InvalidNameError):
            call(name)
    assert not store.fs.exists(root)


@given(st.text(max_size=12))
def test_p6_a_name_that_is_accepted_is_one_segment_that_no_tool_interprets(name):
    try:
        validate_name(name)
    except InvalidNameError:
        return
    assert not set(name) & set("/\\:*?[]{}#%\0\n\r\t~$&|;<>\"'`")
    assert name.isprintable()
    assert pathlib.PurePosixPath("/root", name).parts == ("/", "root", name)
    assert pathlib.PureWindowsPath("C:/root", name).parts == ("C:\\", "root", name)
    assert name[0] not in ".- "
    assert unicodedata.normalize("NFC", name) == name


# ---- file names ----

versions = st.none() | st.text()
parents = st.lists(st.tuples(st.text(), st.text()), max_size=3).map(
    lambda pairs: tuple(sorted(pairs))
)
plans = st.builds(
    Plan, st.integers(0, 20), st.sampled_from(["msgpack", "text"]), versions, parents
)


@given(plans, st.integers(0, 10**9))
def test_a_partition_file_name_says_what_it_was_made_of(plan, index):
    attempt = new_attempt()
    name = partition_filename(plan, index, attempt)
    assert parse_filename(name) == FileName(index, plan.digest, attempt, plan.suffix)
    assert is_own_file(name)
    assert validate_name(name) == name  # no filesystem and no URL takes offence


def test_partition_file_names_sort_by_partition_number():
    names = [partition_filename(Plan(3), i, new_attempt()) for i in (0, 9, 10, 99_999)]
    assert sorted(names) == names


def test_a_text_file_name_carries_partition_count_and_digest():
    digest = "0123456789abcdef" * 2
    attempt = text_attempt(70_000, digest)
    assert parse_text_attempt(attempt) == (70_000, digest[:16])
    assert len(attempt) == 40
    name = partition_filename(Plan(70_000, "text"), 3, attempt)
    assert parse_filename(name).attempt == attempt
    assert parse_text_attempt(new_attempt()) is None


def test_attempts_never_repeat():
    assert len({new_attempt() for _ in range(1_000)}) == 1_000
    assert len({text_attempt(1, "0" * 32) for _ in range(1_000)}) == 1_000


GOOD = partition_filename(Plan(1), 0, "0123456789abcdef")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "part-0.pkl",
        "part-00000.msgpack",
        GOOD.upper(),
        GOOD + "\n",
        GOOD + ".bak",
        GOOD + "~",
        " " + GOOD,
        "../" + GOOD,
        "x/" + GOOD,
        GOOD.replace("msgpack", "pkl"),
        GOOD.replace("part-00000", "part-0000"),
        GOOD.replace("part-00000", "part-000000"),
        GOOD.replace("part-00000", "part--0001"),
        GOOD.replace("part-00000", "part-" + "\u0660" * 5),
        GOOD.replace("part-00000", "part-99999999999"),
        GOOD.replace("0123456789abcdef", "0123456789abcde"),
        GOOD.replace("0123456789abcdef", "0123456789abcdeg"),
        GOOD.replace("0123456789abcdef", "0" * 65),
        "__done__.bak",
        ".tmp-0123",
        ".tmp-0123456789abcdef.swp",
        "_SUCCESS",
    ],
    ids=ascii,
)
def test_p6_files_of_other_names_are_not_ours(name):
    assert parse_filename(name) is None
    assert not is_own_file(name)


def test_the_marker_and_temporary_files_are_ours():
    assert is_own_file(DONE_MARKER)
    assert is_own_file(temporary_filename())
    assert is_temporary(temporary_filename())
    assert not is_temporary(DONE_MARKER)
    assert parse_filename(temporary_filename()) is None


# ---- plans ----


def test_p4_a_plan_digest_depends_on_count_format_version_and_parent_ids():
    described = [
        Plan(2),
        Plan(3),
        Plan(2, "text"),
        Plan(2, version="1"),
        Plan(2, version=""),
        Plan(2, version="None"),
        Plan(2, parents=(("a", "id1"),)),
        Plan(2, parents=(("a", "id2"),)),
        Plan(2, parents=(("a", "id1"), ("b", "id2"))),
        Plan(2, version="id1"),
    ]
    assert len({plan.digest for plan in described}) == len(described)


def test_p7_a_plan_digest_depends_on_nothing_else():
    one = Plan(2, "text", "v", (("a", "id1"), ("b", "id2")))
    renamed = Plan(2, "text", "v", (("x", "id2"), ("y", "id1")))
    assert one.digest == renamed.digest
    assert one.digest == plan_digest(2, "text", "v", ["id1", "id2"])
    # Once and for all: files carry it in their names.
    assert Plan(3).digest == "e0ec1168"


# ---- manifests ----

sizes = st.integers(0, 2**63 - 1)


@st.composite
def manifests(draw):
    plan = draw(plans)
    infos = [
        PartitionInfo(
            partition_filename(plan, index, new_attempt()),
            draw(st.integers(0, size)),
            size,
            draw(st.text("0123456789abcdef", min_size=32, max_size=32)),
            draw(st.floats(0, 1e9)),
            draw(st.booleans()),
        )
        for index in range(plan.npartitions)
        for size in [draw(sizes)]
    ]
    return Manifest(plan, tuple(infos))


@given(manifests())
def test_a_manifest_comes_back_from_one_line_of_sealed_json(manifest):
    data = encode_manifest(manifest)
    found = decode_manifest(data, "x")
    assert found == manifest
    assert found.id == manifest.id
    assert found.files == manifest.files
    assert found.plan.digest == manifest.plan.digest
    assert data.count(b"\n") == 1
    assert data.isascii()
    assert set(json.loads(data)) == {"manifest", "seal"}


def info(index, digest, plan):
    name = partition_filename(plan, index, new_attempt())
    return PartitionInfo(name, 1, 2, digest)


def test_an_id_depends_on_the_content_and_on_nothing_else():
    def identity(plan, digests):
        return Manifest(plan, tuple(info(i, d, plan) for i, d in enumerate(digests))).id

    a, b = "a" * 32, "b" * 32
    same = [
        identity(Plan(2), [a, b]),
        identity(Plan(2), [a, b]),
        identity(Plan(2, version="v", parents=(("x", "y"),)), [a, b]),
    ]
    others = [
        identity(Plan(2), [b, a]),
        identity(Plan(1), [a]),
        identity(Plan(3), [a, b, b]),
        identity(Plan(2, "text"), [a, b]),
        identity(Plan(0), []),
    ]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 1 + len(others)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}",
        b"null",
        b'{"manifest":,"seal":""}\n',
        b'{"manifest":{},"seal":""}\n',
        b"\xff" * 200,
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:30]),
)
def test_p5_what_is_no_manifest_is_corrupt(data):
    with pytest.raises(CorruptCheckpointError, match="the done marker of x "):
        decode_manifest(data, "x")


NESTED = json.loads("[" * 900 + "]" * 900)
OTHER_TYPES = {
    "format_version": [True, 1.0, None, "1", NESTED],
    "plan.npartitions": [True, 1.0, None, "1", -1],
    "plan.format": [None, 1, NESTED],
    "plan.version": [1, True, {}, NESTED],
    "parents": [1, [["x", 1]], [[NESTED, "1"]], [["x"]]],
    "created": [None, 1, NESTED],
    "library": [None, 1, NESTED],
    "token": [None, 1, NESTED],
    "partitions.file": [None, 1, NESTED],
    "partitions.records": [True, 1.0, -1, "1", 2**63],
    "partitions.bytes": [True, 9.0, -1, "9", 2**63],
    "partitions.digest": [None, "", "0" * 31, "G" * 32, f"{0:032}\n"],
    "partitions.seconds": [True, -1, float("nan"), float("inf"), "1", None],
    "partitions.holds_pickle": [0, 1, "", None],
}


@pytest.mark.parametrize("member", OTHER_TYPES)
def test_p5_a_sealed_manifest_with_another_type_anywhere_is_corrupt(member):
    plan = Plan(1)
    info = PartitionInfo(partition_filename(plan, 0, new_attempt()), 1, 9, "0" * 32)
    body = json.loads(encode_manifest(Manifest(plan, (info,))))["manifest"]
    assert decode_manifest(sealed(body), "x").partitions == (info,)
    *outer, key = member.split(".")
    place = body[outer[0]] if outer else body
    for value in OTHER_TYPES[member]:
        place[key] = [value] if outer == ["partitions"] else value
        text = json.dumps(body).encode()
        with pytest.raises(CorruptCheckpointError, match="the done marker of x "):
            decode_manifest(sealed(text), "x")


def test_p5_a_sealed_marker_that_swaps_two_partitions_is_refused():
    plan = Plan(2)
    files = [partition_filename(plan, index, new_attempt()) for index in (1, 0)]
    swapped = tuple(PartitionInfo(file, 1, 100, "0" * 32) for file in files)
    with pytest.raises(CorruptCheckpointError, match="no file of partition 0"):
        decode_manifest(encode_manifest(Manifest(plan, swapped)), "x")
