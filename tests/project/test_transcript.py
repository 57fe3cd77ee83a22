"""The example session in the documentation shows what a terminal shows."""

import re
import shutil

import pytest

from tests.project.docs_blocks import normal
from tests.project.transcript import PAGE, TOP, run_steps


def shown(page):
    """Return each command of the page and what it printed, up to the figures."""
    blocks = re.findall(r"```text\n\$ (.*)\n((?:.*\n)*?)```", page)
    return [(command, structure(output)) for command, output in blocks]


def structure(output):
    """Return what does not differ from machine to machine."""
    lines = []
    for line in output.splitlines():
        if re.match(r" +[\d,]+  \w+ \w+$", line):  # the edges of another Python
            line = "an edge"
        elif line.startswith(("{", "[")):  # its docstrings
            line = "a record"
        elif re.match(r"[\d.]+ \w+ - [\d.]+ \w+ ", line):  # of a histogram
            line = "a bar"
        elif " partitions stored, " in line:
            line = "progress"  # of a save that takes more than a second
        lines.append(normal(line))
    return [line for line in lines if line not in ("a bar", "progress")]


@pytest.mark.long
def test_the_example_session_is_as_the_page_shows_it(tmp_path):
    """P1, P4: install, run, kill, inspect, resume, report, prune, as typed."""
    for path in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / path, tmp_path)
    for folder in ("agatha_ckpt", "examples"):
        shutil.copytree(TOP / folder, tmp_path / folder)
    page = run_steps(tmp_path, tmp_path / ".venv" / "bin", install=True)
    found, expected = shown(page), shown(PAGE.read_text("utf-8"))
    assert [command for command, _ in found] == [command for command, _ in expected]
    for (command, output), (_, as_shown) in zip(found, expected, strict=True):
        assert output == as_shown, command
    partial = re.search(r"^sentences +partial (\d+)/(\d+) ", page, re.MULTILINE)
    stored, of = map(int, partial.groups())
    assert 0 < stored < of
    kept = re.search(r"Saving (\d+) of (\d+) partitions; (\d+) kept", page)
    assert [int(n) for n in kept.groups()] == [of - stored, of, stored]
    assert (tmp_path / "report.html").read_text("utf-8").startswith("<!")
