"""The command line: errors in one line, exit codes, help, and as a real program."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import dask.bag
import pytest

from agatha_ckpt import Checkpointer
from agatha_ckpt._cli.main import main
from tests.cli.cli_cases import (
    damage_marker,
    fill,
    fill_with_foreign_files,
    refused,
    run,
    tree,
)


@pytest.fixture
def folder(tmp_path):
    fill_with_foreign_files(tmp_path)
    return tmp_path


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
    message = refused(command, *(a.format(folder=folder) for a in arguments))
    assert piece in message


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["ls"],
        ["verify"],
        ["nosuch", "root"],
        ["ls", "root", "*", "more"],
        ["--nosuch", "ls", "root"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2_and_says_how_to_go_on(arguments):
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert isinstance(ended.exception, SystemExit)
    assert "Usage:" in ended.stderr


@pytest.mark.parametrize(
    "options", ["anon: true", "[1]", "true", "", '{"key": "sesame"']
)
@pytest.mark.parametrize("before", [True, False])
def test_options_that_are_no_json_object_are_refused_and_not_shown(options, before):
    given = ["--storage-options", options]
    arguments = [*given, "ls", "root"] if before else ["ls", "root", *given]
    message = refused(*arguments, code=2)
    assert "write it as '{\"key\": 1}'" in message
    assert "sesame" not in message


def test_storage_options_reach_the_filesystem(tmp_path):
    options = '{"auto_mkdir": true}'
    with_options = run("--storage-options", options, "ls", tmp_path)
    assert (with_options.exit_code, with_options.stdout) == (0, "")
    # zip takes no such file: only an option can say which one to open.
    missing = f'{{"fo": "{tmp_path}/missing.zip"}}'
    assert "missing.zip" in refused("--storage-options", missing, "ls", "zip://")
    assert "missing.zip" in refused("ls", "zip://", "--storage-options", missing)


# ---- help ----


def test_every_command_has_help_with_an_example():
    expected = {"ls", "show", "head", "verify", "report", "clear", "prune"}
    assert set(main.commands) == expected
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
    command = [sys.executable, "-m", "agatha_ckpt", "ls", str(folder), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == run("ls", folder, "--json").stdout
    usage = subprocess.run([*command[:3], "--help"], capture_output=True, text=True)
    assert "Usage: agatha-ckpt " in usage.stdout


# ---- what cannot be done, on real filesystems ----

EVERY_COMMAND = [
    ["ls"],
    ["show", "lines"],
    ["head", "lines"],
    ["verify"],
    ["clear", "lines", "--yes"],
    ["clear", "--all", "--yes"],
    ["prune", "--older-than", "0s", "--yes"],
]


def on(root, command):
    return [command[0], root, *command[1:]]


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_a_root_that_does_not_exist_is_an_error_of_every_command(tmp_path, command):
    message = refused(*on(tmp_path / "nosuch", command))
    assert "does not exist" in message
    assert not tmp_path.joinpath("nosuch").exists()


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_no_permission_is_one_line_and_shows_no_secret(rclone_server, command):
    root = rclone_server.new_root()
    with rclone_server.configured():
        fill(root)
        options = json.dumps({"secret": "wrong-sesame"})
        message = refused(*on(root, command), "--storage-options", options)
        assert message.startswith("Error: no permission: ")
        assert "under '" in message
        assert "storage options" in message
        assert "sesame" not in message
        assert len(json.loads(run("ls", root, "--json").stdout)) == 3


@contextlib.contextmanager
def without_permission(folder):
    """Let *folder* be forbidden, also where the tests run as root."""
    folder.chmod(0)
    try:
        if os.geteuid() == 0:
            os.seteuid(65534)
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o700)


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_a_folder_that_is_forbidden_is_one_line(folder, command):
    before = tree(folder)
    with without_permission(folder):
        message = refused(*on(folder, command))
    assert message.startswith("Error: no permission: ")
    assert str(folder) in message
    assert tree(folder) == before


def test_a_server_that_is_not_there_is_one_line(s3):
    options = '{"endpoint_url": "http://127.0.0.1:9"}'
    message = refused("ls", "s3://bucket/run", "--storage-options", options)
    assert "127.0.0.1:9" in message
    assert message.endswith("then run this again\n")


def test_options_that_a_filesystem_does_not_know_are_one_line(s3):
    options = '{"nosuch": "sesame"}'
    message = refused("ls", "gs://bucket/run", "--storage-options", options)
    assert "storage options" in message
    assert "sesame" not in message


@pytest.mark.parametrize(
    "module, url, extra",
    [
        ("s3fs", "s3://bucket/run", "s3"),
        ("gcsfs", "gs://bucket/run", "gcs"),
        ("adlfs", "abfs://bucket/run", "azure"),
        ("adlfs", "az://bucket/run", "azure"),
    ],
)
def test_an_extra_that_is_missing_is_named(module, url, extra):
    # As where it is not installed; in a process of its own, as fsspec keeps classes.
    code = (
        f"import sys; sys.modules[{module!r}] = None; "
        "from agatha_ckpt._cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "ls", url]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"pip install 'agatha-ckpt[{extra}]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["show", "head", "verify", "clear"])
def test_a_name_that_does_not_exist_brings_the_nearest(folder, command):
    assert "did you mean 'en_sentences'?" in refused(command, folder, "sentences")
    far = refused(command, folder, "zzzz")
    assert f"`agatha-ckpt ls {folder}` lists" in far


@pytest.mark.parametrize("command", ["show", "head", "clear"])
@pytest.mark.parametrize("name", ["..", "__done__", ".hidden", "a/b", ""])
def test_a_name_that_is_not_legal_says_what_is(folder, command, name):
    assert "use letters, digits" in refused(command, folder, name)


@pytest.mark.parametrize("command", ["show", "head"])
def test_a_damaged_marker_says_what_to_do(folder, command):
    damage_marker(folder, "lines")
    ended = run(command, folder, "lines")
    assert ended.exit_code == 1
    assert "or clear it" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_secrets_in_the_root_are_not_shown():
    message = refused("ls", "nosuch://user:sesame@host/run?signature=sesame")
    assert "sesame" not in message
    assert "user:***@host" in message


# ---- as programs ----


def shell(command, **options):
    """Run a line of a shell with the programs of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path} | options
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment
    )


def test_it_is_installed_alone_and_below_dask(folder):
    for program in ("agatha-ckpt", "dask ckpt"):
        ended = shell(f"{program} ls {folder} --json")
        assert ended.stderr == ""
        assert ended.stdout == run("ls", folder, "--json").stdout
        assert f"Usage: {program} ls" in shell(f"{program} ls --help").stdout
    failed = shell("dask ckpt ls /nosuch/root")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert len(failed.stderr.splitlines()) == 1


def test_root_and_options_come_from_the_environment(folder, s3):
    ended = shell("agatha-ckpt ls --json", DASK_AGATHA_CKPT__ROOT=str(folder))
    assert len(json.loads(ended.stdout)) == 3
    root = s3.new_root()
    fill(root)
    ended = shell(
        "agatha-ckpt verify -",
        FSSPEC_S3="{}",
        DASK_AGATHA_CKPT__ROOT=root,
        DASK_AGATHA_CKPT__STORAGE_OPTIONS=json.dumps(s3.options),
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "en_sentences  ok" in ended.stdout


def test_nobody_reading_on_is_no_error(tmp_path):
    bag = dask.bag.from_sequence(range(50_000), npartitions=2)
    Checkpointer(tmp_path, verbose=False).checkpoint("x", bag, scheduler="sync")
    ended = shell(f"agatha-ckpt head {tmp_path} x -n 50000 | head -1")
    assert (ended.stdout, ended.stderr) == ("0\n", "")


def test_an_ascii_terminal_gets_ascii(tmp_path):
    bag = dask.bag.from_sequence(["é文", "\ud800"], npartitions=1)
    Checkpointer(tmp_path, verbose=False).checkpoint("x", bag, scheduler="sync")
    ascii_only = shell(f"agatha-ckpt head {tmp_path} x", PYTHONIOENCODING="ascii")
    assert ascii_only.stdout == '"\\u00e9\\u6587"\n"\\ud800"\n'
    utf_8 = shell(f"agatha-ckpt head {tmp_path} x", PYTHONIOENCODING="utf-8")
    assert utf_8.stdout == '"é文"\n"\\ud800"\n'


def test_the_shell_completes_names(folder):
    environment = {
        "_AGATHA_CKPT_COMPLETE": "bash_complete",
        "COMP_WORDS": f"agatha-ckpt show {folder} en",
        "COMP_CWORD": "3",
    }
    assert shell("agatha-ckpt", **environment).stdout == "plain,en_sentences\n"
    environment["COMP_WORDS"] = "agatha-ckpt show nosuch://root en"
    nothing = shell("agatha-ckpt", **environment)
    assert (nothing.stdout.strip(), nothing.stderr) == ("", "")
