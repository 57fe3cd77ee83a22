"""A new user's first hour, as a terminal shows it: docs/example-session.md.

    python -m tests.project.transcript --install --write

copies the checkout into an empty folder, installs it there as the README says, goes
through the steps below, and writes what the terminal showed into the page. Without
``--install`` the library that is installed already is used; without ``--write`` the
page is printed.
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
# A run, killed and resumed

What a terminal shows, from the installation to cleaning up.
`python -m tests.project.transcript --install --write` went through these steps in an
empty folder and wrote this page; the tests go through them again, and compare all but
the figures. Where the terminal is a real one, a bar moves while a bag is saved:

![A terminal: two checkpoints are done, and a bar shows that 7 of the 17 partitions of
the third are saved](images/terminal.png)

"""
KILLED = 137

# What is said before each command, the command, and the status that it ends with.
STEPS = [
    ("Install, in a copy of the repository.", INSTALL, 0),
    (
        "Run the quickstart: a pipeline of four steps on the documentation of Python's "
        "standard library. Each step is a checkpoint. The second pass loads.",
        "python examples/quickstart.py --root run-1",
        0,
    ),
    ("Look at what is there.", "agatha-ckpt ls run-1", 0),
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
        "Nothing of it can be loaded as if it were done.",
        "agatha-ckpt head run-1 sentences",
        1,
    ),
    (
        "Run the program again, as it is. `documents` loads, `sentences` keeps what "
        "was saved, and the rest is computed.",
        "python examples/quickstart.py --root run-1",
        0,
    ),
    ("All is done, and all is what was saved.", "agatha-ckpt verify run-1", 0),
    ("The first records, as JSON lines.", "agatha-ckpt head run-1 sentences -n 3", 0),
    (
        "One checkpoint in full: its parents, and how its partitions spread.",
        "agatha-ckpt show run-1 terms",
        0,
    ),
    (
        "The whole root as a page: a graph, a table, and a card for each checkpoint "
        "([how to read it](report.md)).",
        "agatha-ckpt report run-1 -o report.html",
        0,
    ),
    (
        "Another run dies, and nobody takes it up again.",
        "python examples/quickstart.py --root run-2 --kill-after edges > /dev/null",
        KILLED,
    ),
    ("What would be cleaned up?", "agatha-ckpt prune run-2 --partial --dry-run", 0),
    ("Clean it up.", "agatha-ckpt prune run-2 --partial --yes", 0),
    ("What was done stays.", "agatha-ckpt ls run-2", 0),
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
    # A shell says 128 + 9 of a program that was killed, unless it became the program.
    return (
        done.returncode if done.returncode >= 0 else 128 - done.returncode,
        done.stdout,
    )


def shown(output):
    """Return the lines of what a terminal showed."""
    # Python's own, of a pool whose program is gone; it names folders of this machine.
    output = re.sub(r".*resource_tracker: .*\n  warnings\.warn.*\n", "", output)
    output = re.sub(r"bash: line 1: +\d+ Killed .*", "Killed", output)
    return [line.rstrip() for line in output.expandtabs(4).splitlines()]


def go_through(folder, programs, install=False):
    """Take the steps and return the page.

    Raises
    ------
    AssertionError
        A command ended with another status than it should.
    """
    pieces = [HEAD]
    for said, command, status in STEPS:
        output = ""
        if command != INSTALL or install:
            found, output = terminal(command, folder, programs)
            assert found == status, f"{command}: status {found}\n{output}"
        if command == INSTALL:
            output = ""  # what pip has to say of the machine's own settings
        lines = [f"$ {command}", *shown(output.replace(str(folder), "~"))]
        block = "\n".join(lines)
        pieces.append(f"{textwrap.fill(said, 88)}\n\n```text\n{block}\n```\n\n")
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
        page = go_through(folder, programs, arguments.install)
    if arguments.write:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page)


if __name__ == "__main__":
    main()
