"""The example session, as a terminal shows it: docs/example-session.md.

    python -m tests.project.transcript --install --write

copies the checkout into an empty folder, installs it there as the README does, runs the
steps below, and writes what the terminal showed into the page. Without ``--install``
the installed library is used; without ``--write`` the page is printed.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "example-session.md"
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q ."
HEAD = """\
# Example session

What a terminal shows, from the installation to the deletion of what is left.
`python -m tests.project.transcript --install --write` ran these steps in an empty
folder and wrote this page; a test runs them again and compares all but the figures. On
a real terminal a bar moves while a bag is saved:

![A terminal: two checkpoints are done, and a bar shows that 7 of the 17 partitions of
the third are saved](images/terminal.png)

"""
KILLED = 137

# The text before each command, the command, and its exit status.
STEPS = [
    ("Install, in a copy of the repository.", INSTALL, 0),
    (
        "Run the quickstart: a pipeline of four steps on the documentation of Python's "
        "standard library. Each step is a checkpoint. The second pass loads.",
        "python examples/quickstart.py --root run-1",
        0,
    ),
    ("List what is stored.", "agatha-ckpt ls run-1", 0),
    (
        "Start again, and kill the program in the middle of a step, with its workers.",
        "python examples/quickstart.py --root run-1 --fresh --kill-after sentences",
        KILLED,
    ),
    (
        "`sentences` has some of its partitions and no done marker: it is partial.",
        "agatha-ckpt ls run-1",
        0,
    ),
    (
        "A partial checkpoint cannot be loaded.",
        "agatha-ckpt head run-1 sentences",
        1,
    ),
    (
        "Run the program again, unchanged. `documents` loads, `sentences` keeps what "
        "was saved, and the rest is computed.",
        "python examples/quickstart.py --root run-1",
        0,
    ),
    ("Read everything and compare it with its digests.", "agatha-ckpt verify run-1", 0),
    (
        "Print the first records, as JSON lines.",
        "agatha-ckpt head run-1 sentences -n 3",
        0,
    ),
    (
        "Show one checkpoint in full: its parents, and the spread of its partitions.",
        "agatha-ckpt show run-1 terms",
        0,
    ),
    (
        "Write a page of the whole root: a graph, a table, and a card for each "
        "checkpoint ([how to read it](report.md)).",
        "agatha-ckpt report run-1 -o report.html",
        0,
    ),
    (
        "Another run is killed, and not run again.",
        "python examples/quickstart.py --root run-2 --kill-after edges > /dev/null",
        KILLED,
    ),
    (
        "Show what would be deleted. `--older-than 0s` includes what was written just "
        "now; without it the last day is kept.",
        "agatha-ckpt prune run-2 --partial --older-than 0s --dry-run",
        0,
    ),
    ("Delete it.", "agatha-ckpt prune run-2 --partial --older-than 0s --yes", 0),
    ("Done checkpoints stay.", "agatha-ckpt ls run-2", 0),
]


def terminal(command, folder, programs):
    """Return status and output of *command*, typed into a shell in *folder*."""
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "88",
        "PYTHONUNBUFFERED": "1",
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    # A shell exits with 128 + 9 for a killed program, unless it became the program.
    return (
        done.returncode if done.returncode >= 0 else 128 - done.returncode,
        done.stdout,
    )


def shown(output):
    """Return the lines of what a terminal showed."""
    # Python warns about the pool of a killed program, with folders of this machine.
    output = re.sub(r".*resource_tracker: .*\n  warnings\.warn.*\n", "", output)
    output = re.sub(r"bash: line 1: +\d+ Killed .*", "Killed", output)
    return [line.rstrip() for line in output.expandtabs(4).splitlines()]


def run_steps(folder, programs, install=False):
    """Run the steps and return the page.

    Raises
    ------
    AssertionError
        A command ended with an unexpected status.
    """
    pieces = [HEAD]
    for text, command, status in STEPS:
        output = ""
        if command != INSTALL or install:
            found, output = terminal(command, folder, programs)
            assert found == status, f"{command}: status {found}\n{output}"
        if command == INSTALL:
            output = ""  # warnings of pip about this machine
        lines = [f"$ {command}", *shown(output.replace(str(folder), "~"))]
        block = "\n".join(lines)
        pieces.append(f"{textwrap.fill(text, 88)}\n\n```text\n{block}\n```\n\n")
    return "".join(pieces).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = Path(sys.executable).parent
        if arguments.install:
            for path in ("pyproject.toml", "README.md", "LICENSE"):
                shutil.copy(TOP / path, folder)
            shutil.copytree(TOP / "agatha_ckpt", folder / "agatha_ckpt")
            programs = folder / ".venv" / "bin"
        shutil.copytree(TOP / "examples", folder / "examples")
        page = run_steps(folder, programs, arguments.install)
    if arguments.write:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page)


if __name__ == "__main__":
    main()
