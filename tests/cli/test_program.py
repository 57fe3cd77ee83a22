"""The command line as a program in a shell: one process a test."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from functools import partial
from pathlib import Path

import pytest

from tests.cli.cases import fill, run, save
from tests.servers.proxy import Fault
from tests.store.test_requests import kind


def shell(command, **options):
    """Run a line of a shell with the programs of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path} | options,
    )


@pytest.mark.parametrize(
    "program", ["agatha-ckpt", "dask ckpt", f"{sys.executable} -m agatha_ckpt"]
)
def test_each_way_to_start_it_is_the_same_program(folder, program):
    ended = shell(f"{program} ls {folder} --json")
    assert ended.stderr == ""
    assert ended.stdout == run("ls", folder, "--json").stdout


def test_usage_names_the_program_that_was_started():
    assert "Usage: dask ckpt ls" in shell("dask ckpt ls --help").stdout


def test_root_and_options_come_from_the_environment(s3):
    root = s3.new_root()
    fill(root)
    ended = shell(
        "agatha-ckpt verify",
        FSSPEC_S3="{}",
        DASK_AGATHA_CKPT__ROOT=root,
        DASK_AGATHA_CKPT__STORAGE_OPTIONS=json.dumps(s3.options),
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "en_sentences  ok" in ended.stdout


@pytest.mark.parametrize(
    "module, url, extra",
    [
        ("s3fs", "s3://bucket/run", "s3"),
        ("gcsfs", "gs://bucket/run", "gcs"),
        ("adlfs", "abfs://bucket/run", "azure"),
    ],
)
def test_a_missing_extra_is_named(module, url, extra):
    # fsspec keeps the classes of a process, so that it must be a new one.
    code = (
        f"import sys; sys.modules[{module!r}] = None; "
        "from agatha_ckpt._cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "ls", url]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"pip install 'agatha-ckpt[{extra}]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["--help", "ls {}", "head {} x -n 50000"])
def test_a_closed_pipe_ends_it_silently(tmp_path, command):
    save(tmp_path, range(50_000), 2)
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "agatha_ckpt", *command.format(tmp_path).split()],
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_a_closed_stderr_is_not_a_failure(folder):
    ended = subprocess.run(
        ["sh", "-c", '"$0" -m agatha_ckpt verify "$1" 2>&-', sys.executable, folder],
        stdout=subprocess.PIPE,
    )
    assert (ended.returncode, ended.stdout) == (0, run("verify", folder).stdout_bytes)


class Silence(Fault):
    """No answer comes."""

    def __init__(self):
        self.arrived, self.end = threading.Event(), threading.Event()

    def happen(self, handler, request):
        self.arrived.set()
        self.end.wait()


@pytest.mark.parametrize("what", ["LIST", "GET marker", "GET part"])
def test_an_interrupt_ends_it_while_the_server_is_silent(counted, what):
    fill(counted.root)
    silence = Silence()
    counted.proxy.fault = lambda request: silence if kind(request) == what else None
    process = subprocess.Popen(
        [sys.executable, "-m", "agatha_ckpt", "verify", counted.root],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell lets its background jobs, and what these start, ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert silence.arrived.wait(60)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        silence.end.set()
        process.kill()
    assert (process.returncode, output) == (130, b"")


@pytest.mark.parametrize(
    "encoding, shown", [("ascii", '"\\u00e9\\u6587"'), ("utf-8", '"é文"')]
)
def test_records_are_printed_in_the_encoding_of_the_terminal(tmp_path, encoding, shown):
    save(tmp_path, ["é文", "\ud800"])
    ended = shell(f"agatha-ckpt head {tmp_path} x", PYTHONIOENCODING=encoding)
    assert ended.stdout == f'{shown}\n"\\ud800"\n'


@pytest.mark.parametrize(
    "root, completed", [("{folder}", "plain,en_sentences\n"), ("nosuch://root", "")]
)
def test_the_shell_completes_names(folder, root, completed):
    ended = shell(
        "agatha-ckpt",
        _AGATHA_CKPT_COMPLETE="bash_complete",
        COMP_WORDS=f"agatha-ckpt show {root.format(folder=folder)} en",
        COMP_CWORD="3",
    )
    assert (ended.stdout.lstrip("\n"), ended.stderr) == (completed, "")


def test_verify_draws_a_bar_on_a_terminal_alone(folder):
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    os.set_blocking(controller, False)
    command = [sys.executable, "-m", "agatha_ckpt", "verify", str(folder), "[el]*"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=terminal)
    drawn = os.read(controller, 100_000)
    os.close(terminal)
    os.close(controller)
    assert ended.stdout.decode() == run("verify", folder, "[el]*").stdout
    assert b"verifying:" in drawn


QUICK = """
import contextlib, io, os, sys
from agatha_ckpt._cli.main import main

folder, *heavy = sys.argv[1:]
for command in ["--version"], ["--help"], ["ls", folder], ["ls", folder, "--json"]:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        main(command, standalone_mode=False)
    assert printed.getvalue()
os.environ["COMP_WORDS"] = f"agatha-ckpt show {folder} en"
os.environ["COMP_CWORD"] = "3"
with contextlib.suppress(SystemExit):
    main(prog_name="agatha-ckpt", complete_var="COMPLETE")
print(*(name for name in heavy if name in sys.modules))
"""
HEAVY = ["dask", "distributed", "numpy", "pandas", "pyarrow", "s3fs", "yaml"]
HEAVY += ["aiohttp", "jinja2", "tqdm", "agatha_ckpt._run", "agatha_ckpt._dask"]


def test_what_answers_at_once_imports_nothing_heavy(folder):
    ended = subprocess.run(
        [sys.executable, "-c", QUICK, str(folder), *HEAVY],
        capture_output=True,
        text=True,
        env=os.environ | {"COMPLETE": "bash_complete"},
    )
    assert ended.stderr == ""
    assert ended.stdout.split() == ["plain,en_sentences"]
