"""Names of checkpoints and of files, as pure functions."""

import pathlib
import unicodedata
from ast import literal_eval

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agatha_ckpt import InvalidNameError
from agatha_ckpt._format.names import (
    DONE_MARKER,
    FileName,
    is_own_file,
    is_temporary,
    new_run,
    new_token,
    parse_filename,
    partition_filename,
    temporary_filename,
    validate_name,
)

# ---- names ----

LEGAL_WORDS = """
a 0 _ _a __a a__ __a_b a..b a- part-0.pkl console com com10 nul_.x lpt
äöüß é हिन्दी தமிழ் ไทย 中文 日本語 한국어 العربية עברית Ελληνικά русский
١٢٣ Ⅻ \N{MATHEMATICAL SCRIPT CAPITAL X}
"""
LEGAL = [
    *LEGAL_WORDS.split(),
    "A-b_c.d 1",
    "a  b",
    "मराठी वाक्ये",
    "x" * 200,
    "ह" * 66,
]


@pytest.mark.parametrize("name", LEGAL)
def test_legal_names_come_back_unchanged(name, tmp_path):
    assert validate_name(name) == name
    (tmp_path / name).mkdir()  # and a filesystem takes them as one segment
    assert [path.name for path in tmp_path.iterdir()] == [name]


HOSTILE_WORDS = r"""
. .. ... ../x ../../etc/passwd /abs / //host/share a/b a/ a/../b
a\b \\host\share C:\a C: a:b file://a s3://bucket/a a::b zip::a
.a .tmp-0123456789abcdef -a -rf -- __done__ __x__ __ ____ __हिन्दी__
* a* a? run[1] {a,b} a#b a%2Fb a+b ~ ~root $HOME a;b a|b a&b a<b
a"b a'b a`b a@b a=b a,b 😀
a. a.. CON con prn aux nul Nul.txt com1 COM0.a.b LPT9 lpt² com¹.x
"""
HOSTILE = [
    *HOSTILE_WORDS.split(),
    *["", " ", " a", "a ", "a\0", "\0", "a\0b", "a\n", "\na", "a\r", "a\tb"],
    *["a\x7f", "a\x85b", "a\u2028b", "a\u200bb", "a\u202eb", "\ufeffa", "a\u00a0b"],
    *["a\u2003b", "e\u0301", "\u0301a", "ि", "a\ud800", "\ue000", "\x1b[31m"],
    *["x" * 201, "ह" * 67, "a .", "nul .x", "con "],
    *[unicodedata.normalize("NFD", "ä"), unicodedata.normalize("NFD", "한국어")],
    *[None, 1, True, b"a", ["a"], ("a",), {"a": 1}, frozenset(), pathlib.PurePath("a")],
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_p6_other_names_are_refused_in_one_line_that_proposes_a_legal_one(name):
    with pytest.raises(InvalidNameError) as caught:
        validate_name(name)
    message = str(caught.value)
    assert message.isprintable()
    message.encode()
    proposed = message.rpartition("; use ")[2]
    if proposed.startswith("'"):
        validate_name(literal_eval(proposed))


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

FINGERPRINT, BASE, RUN = "0123456789abcdef" * 2, "89abcdef", "01234567"
hexadecimal = st.sampled_from("0123456789abcdef")


def digits(count):
    return st.text(hexadecimal, min_size=count, max_size=count)


@given(st.integers(0, 10**9), digits(32), digits(8), digits(8), st.booleans())
def test_a_partition_file_name_has_the_parts_it_was_made_of(
    index, fingerprint, base, run, text
):
    suffix, content = ("txt", f"{70_000:08x}{RUN * 2}") if text else ("msgpack", "")
    name = partition_filename(index, fingerprint, base, run, suffix, content)
    found = parse_filename(name)
    parts = (index, fingerprint, base, run, found.attempt, suffix)
    assert found == FileName(*parts, *((70_000, RUN * 2) if text else (None, None)))
    assert is_own_file(name)
    assert validate_name(name) == name  # valid on every filesystem and in a URL
    assert name != partition_filename(index, fingerprint, base, run, suffix, content)


def test_partition_file_names_sort_by_partition_number():
    names = [
        partition_filename(i, FINGERPRINT, BASE, RUN, "msgpack")
        for i in (0, 9, 10, 99_999)
    ]
    assert sorted(names) == names


def test_runs_and_tokens_never_repeat():
    for make, length in ((new_run, 8), (new_token, 16)):
        found = {make() for _ in range(1_000)}
        assert len(found) == 1_000
        assert set(map(len, found)) == {length}


ATTEMPT = "0123456789abcdef"
GOOD = f"part-00000-{FINGERPRINT}-{BASE}-{ATTEMPT}.msgpack"


OTHER_NAMES = [
    *["", "part-0.pkl", "part-00000.msgpack", "__done__.bak", "_SUCCESS", ".tmp-0123"],
    *[
        ".tmp-0123456789abcdef.swp",
        GOOD.upper(),
        GOOD + "\n",
        GOOD + ".bak",
        GOOD + "~",
    ],
    *[" " + GOOD, "../" + GOOD, "x/" + GOOD, GOOD.replace(f"-{BASE}", "")],
    *(
        GOOD.replace("part-00000", f"part-{index}")
        for index in ("0000", "000000", "-0001", "\u0660" * 5, "9" * 11)
    ),
    *(
        GOOD.replace(f"-{ATTEMPT}.", f"-{attempt}.")
        for attempt in (ATTEMPT[1:], ATTEMPT + "0", ATTEMPT[1:] + "g")
    ),
    GOOD.replace(FINGERPRINT, FINGERPRINT[1:]),
]


@pytest.mark.parametrize("name", OTHER_NAMES, ids=ascii)
def test_p6_files_of_other_names_are_not_ours(name):
    assert parse_filename(name) is None
    assert not is_own_file(name)


def test_the_marker_and_temporary_files_are_ours():
    assert is_own_file(DONE_MARKER)
    assert is_own_file(temporary_filename())
    assert is_temporary(temporary_filename())
    assert not is_temporary(DONE_MARKER)
    assert parse_filename(temporary_filename()) is None


@pytest.mark.parametrize(
    "name",
    [
        f"part-00000-01234567-{ATTEMPT}.msgpack",
        f"part-100000-01234567-{ATTEMPT}{ATTEMPT}01234567.txt",
        f".next-{ATTEMPT}",
        ".run-01234567",
    ],
)
def test_files_of_the_unreleased_format_are_ours_to_remove_and_not_to_read(name):
    assert is_own_file(name)
    assert parse_filename(name) is None
