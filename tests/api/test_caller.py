"""ckpt("bag") replaces the caller's variable, on every Python found here."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agatha_ckpt import Checkpointer, CheckpointHalt
from tests.api import caller_cases

REPOSITORY = Path(__file__).parents[2]


def find_uv():
    try:
        from uv import find_uv_bin

        return find_uv_bin()
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


def can_run(python):
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


@functools.cache
def other_pythons():
    """Return the other CPythons on this machine: version to path, oldest first."""
    found = {}
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for minor in range(11, 31):
        paths = [*sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python"))]
        # pyenv's commands on PATH run nothing but the versions that were chosen.
        for path in [*paths, shutil.which(f"python3.{minor}")]:
            if minor != sys.version_info[1] and path and can_run(path):
                found.setdefault(f"3.{minor}", str(path))
    return found


@pytest.mark.parametrize("case", caller_cases.CASES, ids=lambda case: case.__name__)
def test_the_variable_is_replaced(case, tmp_path):
    caller_cases.run(case, tmp_path)


NOT_HERE = pytest.mark.skip(
    reason="needs uv" if not find_uv() else "no other CPython from 3.11 up was found"
)


@pytest.mark.long
@pytest.mark.parametrize(
    "version",
    (other_pythons() if find_uv() else ()) or [pytest.param("other", marks=NOT_HERE)],
)
def test_the_variable_is_replaced_on_every_other_python(version, tmp_path):
    uv, environment = find_uv(), tmp_path / "environment"
    run = functools.partial(
        subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    for command in (
        [uv, "venv", "--python", other_pythons()[version], environment],
        [uv, "pip", "install", "--python", environment / "bin" / "python", REPOSITORY],
    ):
        ended = run(command)
        assert ended.returncode == 0, ended.stderr
    ended = run([environment / "bin" / "python", caller_cases.__file__])
    assert ended.returncode == 0, ended.stderr
    expected = f"caller cases: {len(caller_cases.CASES) + 1} passed"
    assert ended.stdout.splitlines()[-1] == expected


def test_the_script_passes_as_a_script_here_too(tmp_path):
    command = [sys.executable, caller_cases.__file__]
    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("caller cases: ")


@pytest.mark.parametrize("on_stale", ["warn", "recompute", "error"])
def test_a_variable_that_loads_its_own_checkpoint_is_not_stale(
    tmp_path, capsys, on_stale
):
    # As when a cell of a notebook is run again.
    source = caller_cases.Source()
    bag = source.bag
    checkpointer = Checkpointer(tmp_path, on_stale=on_stale)
    checkpointer.ckpt("bag", scheduler="sync")
    before = sorted(path.name for path in tmp_path.glob("bag/*"))
    capsys.readouterr()
    checkpointer.ckpt("bag", scheduler="sync")
    with pytest.raises(CheckpointHalt):
        checkpointer.ckpt("bag", scheduler="sync", halt_after="bag")
    assert "stale" not in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.glob("bag/*")) == before
    assert bag.compute(scheduler="sync") == caller_cases.VALUES
