"""The command line: what it prints, and with which exit code it ends."""

import subprocess
import sys

import click
import dask.bag
import pytest
from click.testing import CliRunner

from agatha_ckpt import Checkpointer
from agatha_ckpt._cli import main


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def tree(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def make_bag(fail_after=None):
    computed = []

    def compute(value):
        if len(computed) == fail_after:
            raise ZeroDivisionError(value)
        computed.append(value)
        return value

    return dask.bag.from_sequence(["a", "b", "c", "d"], npartitions=2).map(compute)


@pytest.fixture
def folder(tmp_path):
    """A root with a msgpack, a text and a partial checkpoint, and foreign files."""
    checkpointer = Checkpointer(tmp_path, verbose=False)
    checkpointer.checkpoint("en_sentences", make_bag(), scheduler="sync")
    checkpointer.checkpoint("lines", make_bag(), textfile=True, scheduler="sync")
    with pytest.raises(ZeroDivisionError):
        checkpointer.checkpoint("unfinished", make_bag(2), scheduler="sync")
    tmp_path.joinpath("notes.txt").write_text("mine")
    tmp_path.joinpath("foreign").mkdir()
    tmp_path.joinpath("foreign/data.csv").write_text("mine")
    return tmp_path


def damage_one_partition(folder, name):
    path = min(folder.glob(f"{name}/part-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# ---- ls ----


def test_ls_lists_what_is_done_and_partial_and_writes_nothing(folder):
    before = tree(folder)
    ended = run("ls", folder)
    assert ended.exit_code == 0
    header, *rows = [line.split() for line in ended.stdout.splitlines()]
    assert header[:5] == ["NAME", "STATE", "FORMAT", "PARTITIONS", "RECORDS"]
    assert header[5:] == ["SIZE", "AGE", "VERSION"]
    assert [row[0] for row in rows] == ["en_sentences", "lines", "unfinished"]
    assert rows[0][1:5] == ["done", "msgpack", "2", "4"]
    assert rows[1][1:7] == ["done", "text", "2", "4", "8", "B"]
    assert rows[2][1:5] == ["partial", "1/2", "msgpack", "1"]
    assert tree(folder) == before


def test_ls_aligns_its_columns(folder):
    header, *lines = run("ls", folder, "[el]*").stdout.splitlines()
    assert {line.index("done") for line in lines} == {header.index("STATE")}
    end = header.index("PARTITIONS") + len("PARTITIONS")
    assert {line[end - 2 : end] for line in lines} == {" 2"}


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("*_sentences", ["en_sentences"]),
        ("[lu]*", ["lines", "unfinished"]),
        ("nothing", []),
    ],
)
def test_ls_takes_a_pattern(folder, pattern, names):
    ended = run("ls", folder, pattern)
    assert [line.split()[0] for line in ended.stdout.splitlines()][1:] == names
    assert ended.exit_code == 0


# ---- verify ----


def test_verify_says_ok_and_ends_with_0_where_all_is_well(folder):
    before = tree(folder)
    ended = run("verify", folder)
    assert ended.stdout.splitlines() == ["en_sentences: ok", "lines: ok"]
    assert ended.exit_code == 0
    assert tree(folder) == before


@pytest.mark.parametrize("name", ["en_sentences", "lines"])
def test_verify_names_the_damaged_partition_and_ends_with_1(folder, name):
    """P5: a flipped bit is found, and named."""
    damage_one_partition(folder, name)
    before = tree(folder)
    ended = run("verify", folder)
    assert ended.exit_code == 1
    other = {"en_sentences": "lines", "lines": "en_sentences"}[name]
    assert f"{other}: ok" in ended.stdout
    assert f"{name}: damaged\n\tpartition 0: " in ended.stdout
    assert "partition 1" not in ended.stdout
    assert tree(folder) == before
    assert run("verify", folder, other).exit_code == 0


def test_verify_names_a_missing_file(folder):
    min(folder.glob("lines/part-*")).unlink()
    ended = run("verify", folder, "lines")
    assert ended.exit_code == 1
    assert "lines: damaged\n\tpartition 0: " in ended.stdout
    assert "missing" in ended.stdout


def test_verify_names_a_broken_marker(folder):
    marker = folder / "lines" / "__done__"
    marker.write_bytes(marker.read_bytes()[:-10])
    ended = run("verify", folder)
    assert ended.exit_code == 1
    assert "lines: damaged\n\t" in ended.stdout
    assert "marker" in ended.stdout


# ---- errors ----


@pytest.mark.parametrize("command", ["ls", "verify"])
@pytest.mark.parametrize(
    "arguments, piece",
    [
        (["nosuch://bucket"], "nosuch://bucket"),
        ([""], "''"),
        (["{folder}/notes.txt"], "is a file"),
    ],
)
def test_a_root_that_cannot_be_is_one_line_and_exit_code_1(
    folder, command, arguments, piece
):
    ended = run(command, *(a.format(folder=folder) for a in arguments))
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: ")
    assert piece in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["ls"],
        ["verify"],
        ["nosuch", "root"],
        ["ls", "root", "*", "more"],
        ["--nosuch", "ls", "root"],
        ["--storage-options", "anon: true", "ls", "root"],
        ["--storage-options", "[1]", "ls", "root"],
        ["--storage-options", "true", "verify", "root"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2_and_says_how_to_go_on(arguments):
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert isinstance(ended.exception, SystemExit)
    assert "Usage:" in ended.stderr


def test_storage_options_reach_the_filesystem(tmp_path):
    options = '{"auto_mkdir": true}'
    with_options = run("--storage-options", options, "ls", tmp_path)
    assert (with_options.exit_code, with_options.stdout) == (0, "")
    # zip takes no such file: only an option can say which one to open.
    missing = f'{{"fo": "{tmp_path}/missing.zip"}}'
    refused = run("--storage-options", missing, "ls", "zip://")
    assert refused.exit_code == 1
    assert "missing.zip" in refused.stderr


# ---- help ----


def test_every_command_has_help_with_an_example():
    assert set(main.commands) == {"ls", "report", "verify"}
    for name, command in main.commands.items():
        ended = run(name, "--help")
        assert ended.exit_code == 0
        assert f"Example: agatha-ckpt {name} " in ended.stdout
        described = ended.stdout.partition("Options:")[0].split("\n", 1)[1]
        for argument in command.params:
            if isinstance(argument, click.Argument):
                shown = argument.make_metavar(click.Context(command))
                assert shown.strip("[].") in described
    overview = run("--help").stdout
    assert "Exit codes:" in overview
    assert "--storage-options" in overview


def test_python_dash_m_is_the_same_program(folder):
    command = [sys.executable, "-m", "agatha_ckpt", "ls", str(folder), "lines"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == run("ls", folder, "lines").stdout
    usage = subprocess.run([*command[:3], "--help"], capture_output=True, text=True)
    assert "Usage: agatha-ckpt " in usage.stdout
