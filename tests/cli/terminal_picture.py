"""Draw the picture of a terminal in the documentation.

    python -m tests.cli.terminal_picture

runs the quickstart in a pseudo-terminal, takes its screen when a progress bar is
half-way, and renders it to ``docs/images/terminal.png`` with Chromium.
"""

import fcntl
import html
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pyte

from tests.report.pages import chromium

TOP = Path(__file__).parents[2]
PICTURE = TOP / "docs" / "images" / "terminal.png"
COLUMNS, ROWS = 104, 16
COMMAND = "python examples/quickstart.py --root run-1"
HALF_WAY = re.compile(r"^terms: +[4-6]\d%")
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #10151c; color: #d6dde6; }}
pre {{ margin: 0; padding: 18px 22px; font: 15px/1.45 "DejaVu Sans Mono", monospace; }}
</style><pre>{}</pre>
"""


def screen_half_way(folder):
    """Return the lines of the terminal when the bar of a step is half-way."""
    shutil.copytree(TOP / "examples", folder / "examples")
    master, slave = pty.openpty()
    size = struct.pack("HHHH", ROWS, COLUMNS, 0, 0)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
    programs = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "TQDM_MININTERVAL": "0",
        "TERM": "xterm-256color",
    }
    process = subprocess.Popen(
        ["bash", "-c", COMMAND],
        cwd=folder,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    found = None
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # the program has ended
            break
        stream.feed(data)
        lines = [line.rstrip() for line in screen.display]
        if found is None and any(HALF_WAY.match(line) for line in lines):
            found = lines
    os.close(master)
    assert process.wait() == 0
    assert found, "no bar was half-way when the screen was read; run it again"
    return [f"$ {COMMAND}", *found]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = screen_half_way(folder)
        while not lines[-1]:
            lines.pop()
        page = folder / "terminal.html"
        page.write_text(PAGE.format(html.escape("\n".join(lines))), encoding="utf-8")
        height = round(len(lines) * 15 * 1.45) + 38
        chromium(folder, page, f"--screenshot={PICTURE}", width=1000, height=height)
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
