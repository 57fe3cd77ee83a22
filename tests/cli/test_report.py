"""The command that writes a report."""

import dask.bag
import pytest
from click.testing import CliRunner

from agatha_ckpt import Checkpointer, CheckpointStore
from agatha_ckpt._cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


@pytest.fixture
def root(tmp_path):
    bag = dask.bag.from_sequence([1], npartitions=1)
    Checkpointer(tmp_path / "root", verbose=False).checkpoint(
        "x", bag, scheduler="sync"
    )
    return tmp_path / "root"


def test_the_page_replaces_the_one_before(root, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    ended = run(root, "-o", path)
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr == f"{path}: 1 checkpoint\n"
    assert str(root) in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir() if p != root] == ["report.html"]


def test_the_page_is_printed(root):
    ended = run(root, "-o", "-")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.stdout.startswith("<!DOCTYPE html>")


def test_a_failure_keeps_the_page_before(root, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    ended = run(tmp_path / "missing", "-o", path)
    assert ended.exit_code == 1
    assert "does not exist" in ended.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.glob("*.html")) == [path]


@pytest.mark.parametrize("where", ["missing/report.html", "."])
def test_a_place_that_cannot_be_written_to_is_refused(root, where, tmp_path):
    ended = run(root, "-o", tmp_path / where)
    assert ended.exit_code == 2
    assert "Error: Invalid value for" in ended.stderr


def test_the_page_does_not_hold_the_password_of_the_root():
    store = CheckpointStore("memory://user:hush@host/x")
    bag = dask.bag.from_sequence([1], npartitions=1)
    Checkpointer(store, verbose=False).checkpoint("x", bag, scheduler="sync")
    ended = run("memory://user:hush@host/x", "-o", "-")
    store.clear_all()
    assert "memory://user:***@host/x" in ended.stdout
    assert "hush" not in ended.stdout
