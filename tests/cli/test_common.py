"""Roots, storage options, names, and errors in one line and an exit code."""

import json

import click
import dask
import pytest

from agatha_ckpt._cli.main import main
from tests.cli.cases import fill, forbidden, on_terminal, refused, rows, run, save

EVERY_COMMAND = [
    ["ls"],
    ["show", "lines"],
    ["head", "lines"],
    ["export", "lines"],
    ["verify"],
    ["clear", "lines", "--yes"],
    ["clear", "--all", "--yes"],
    ["prune", "--older-than", "0s", "--yes"],
]
every_command = pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)


def on(root, command):
    return [command[0], root, *command[1:]]


# ---- the command line ----


def test_every_command_has_help_with_an_example():
    expected = {"ls", "show", "head", "export", "verify", "report", "probe"}
    expected |= {"copy", "rename", "clear", "prune"}
    assert set(main.commands) == expected
    for name, command in main.commands.items():
        ended = run(name, "--help")
        assert ended.exit_code == 0
        assert f"Example: agatha-ckpt {name} " in ended.stdout
        described = ended.stdout.partition("Options:")[0].split("\n", 1)[1]
        for argument in command.params:
            if isinstance(argument, click.Argument):
                metavar = argument.make_metavar(click.Context(command))
                assert metavar.strip("[].") in described
    overview = run("--help").stdout
    assert "Exit codes:" in overview
    assert "--storage-options" in overview


@pytest.mark.parametrize(
    "arguments",
    ["", "ls", "verify", "nosuch root", "ls root * more", "--nosuch ls root"],
)
def test_an_invalid_command_line_prints_usage_and_exits_2(arguments):
    ended = run(*arguments.split())
    assert ended.exit_code == 2
    assert "Usage:" in ended.stderr


@pytest.mark.parametrize("columns", [40, 46, 80])
@pytest.mark.parametrize(
    "command", [["probe"], ["prune", "--partial", "-n"], ["show", "de_sentences"]]
)
def test_a_narrow_terminal_breaks_lines_between_words(
    folder, monkeypatch, columns, command
):
    note = {"note": "made of the abstracts that were published before 2026"}
    save(folder, "ab", name="de_sentences", metadata=note)
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = on_terminal(*on(folder, command))
    for line in shown.splitlines():
        assert len(line) <= columns or " " not in line[12:].strip()
    piped = run(*on(folder, command)).stdout
    assert set(shown.split()) <= set(piped.split())


def test_help_fits_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    for arguments in ([], *([name] for name in main.commands)):
        lines = run(*arguments, "--help").stdout.splitlines()
        assert max(map(len, lines)) <= 40


# ---- the root ----


@every_command
def test_a_root_that_does_not_exist_is_an_error(root, command):
    assert "does not exist" in refused(*on(root, command))
    assert "does not exist" in refused(*on(root, command))  # still: nothing is written


@pytest.mark.parametrize(
    "root, piece",
    [
        ("nosuch://bucket", "nosuch://bucket"),
        ("", "''"),
        ("{folder}/notes.txt", "is a file"),
    ],
)
def test_a_root_that_cannot_be_used_is_an_error(folder, root, piece):
    assert piece in refused("ls", root.format(folder=folder))


def test_the_root_may_come_from_the_configuration(folder):
    with dask.config.set({"agatha-ckpt.root": str(folder)}):
        assert len(rows(run("ls"))) == 3
        assert [row[0] for row in rows(run("ls", "-", "lines"))] == ["lines"]
    without = run("ls")
    assert without.exit_code == 2
    assert "DASK_AGATHA_CKPT__ROOT" in without.stderr
    with dask.config.set({"agatha-ckpt.rot": str(folder)}):
        assert "use root" in refused("ls")


# ---- storage options ----


@pytest.mark.parametrize("options", ["anon: true", "[1]", "true", "", '{"key": "k"'])
def test_options_that_are_not_a_json_object_are_refused(options):
    given = ["--storage-options", options]
    for arguments in ([*given, "ls", "root"], ["ls", "root", *given]):
        message = refused(*arguments, code=2)
        assert "write it as '{\"key\": 1}'" in message


def test_storage_options_reach_the_filesystem(tmp_path):
    options = '{"auto_mkdir": true}'
    with_options = run("--storage-options", options, "ls", tmp_path)
    assert (with_options.exit_code, with_options.stdout) == (0, "")
    # zip has no such file: only an option can name the one to open.
    missing = f'{{"fo": "{tmp_path}/missing.zip"}}'
    assert "missing.zip" in refused("--storage-options", missing, "ls", "zip://")
    assert "missing.zip" in refused("ls", "zip://", "--storage-options", missing)


def test_options_that_a_filesystem_does_not_have_are_not_shown():
    options = '{"nosuch": "sesame"}'
    message = refused("ls", "github://run", "--storage-options", options)
    assert "storage options" in message
    assert "sesame" not in message


# ---- permissions and networks ----


@every_command
def test_wrong_credentials_are_one_line_without_secrets(rclone_server, command):
    root = rclone_server.new_root()
    with rclone_server.configured():
        fill(root)
        options = json.dumps({"secret": "wrong-sesame"})
        message = refused(*on(root, command), "--storage-options", options)
        assert message.startswith("Error: no permission: ")
        assert "under '" in message
        assert "storage options" in message
        assert "sesame" not in message
        assert len(rows(run("ls", root))) == 3


@every_command
def test_a_root_without_permission_is_one_line(folder, command):
    with forbidden(folder):
        message = refused(*on(folder, command))
    assert message.startswith("Error: no permission: ")
    assert str(folder) in message
    assert len(rows(run("ls", folder))) == 3


def test_a_server_that_does_not_answer_is_one_line():
    options = {"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": "s"}
    options["config_kwargs"] = {"retries": {"max_attempts": 0}}
    given = ["--storage-options", json.dumps(options)]
    message = refused("ls", "s3://bucket/run", *given)
    assert "127.0.0.1:9" in message
    assert message.endswith("and retry\n")


# ---- names ----


@pytest.mark.parametrize("command", ["show", "head", "export", "verify", "clear"])
def test_an_unknown_name_is_an_error_with_the_nearest(folder, command):
    assert "did you mean 'en_sentences'?" in refused(command, folder, "sentences")
    far = refused(command, folder, "zzzz")
    assert f"`agatha-ckpt ls {folder}` lists" in far
