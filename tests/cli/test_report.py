"""``agatha-ckpt report``."""

import os

import pytest

from tests.cli.cases import refused, run, save


@pytest.fixture
def root(tmp_path):
    save(tmp_path / "root", [1])
    return tmp_path / "root"


def test_the_page_replaces_the_one_before(root, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    ended = run("report", root, "-o", path)
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert ended.stderr == f"{path}: 1 checkpoint\n"
    assert str(root) in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir() if p != root] == ["report.html"]
    assert run("report", root, "-o", "-").stdout.startswith("<!DOCTYPE html>")


def test_a_failure_keeps_the_page_before(root, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    assert "does not exist" in refused("report", tmp_path / "missing", "-o", path)
    assert path.read_text() == "old"
    assert list(tmp_path.glob("*.html")) == [path]


@pytest.mark.parametrize("where", ["missing/report.html", "."])
def test_a_place_that_cannot_be_written_to_is_refused(root, where, tmp_path):
    ended = run("report", root, "-o", tmp_path / where)
    assert ended.exit_code == 2
    assert "Error: Invalid value for" in ended.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_full_disk_is_not_a_fault_of_the_root(root):
    message = refused("report", root, "-o", "/dev/full")
    assert message.endswith("; free space there, and retry\n")
