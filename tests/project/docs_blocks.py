"""The code blocks of a page of the documentation: found, run, and compared.

    python -m tests.project.docs_blocks docs/quickstart.md

runs the blocks of a page and prints what each of them printed; ``--write`` puts that
into the page. In the pages:

- ``python`` and ``sh`` blocks run in order, in one process and one empty folder;
- a ``text`` block after one of them is what it prints, up to the figures;
- ``json`` and ``yaml`` blocks are well-formed; blocks without a language are prose;
- a comment before a block changes that: ``<!-- exempt: reason -->`` for one that is
  not run, ``<!-- raises: NameOfTheError -->`` for one that ends with that error;
- ``<!-- first: code -->`` is run, and not shown.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import yaml

PIECE = re.compile(
    r"^<!-- first:\n(?P<hidden>.*?)^-->$"
    r"|^(?P<notes>(?:<!-- (?:exempt|raises): [^\n]*? -->\n)*)"
    r"^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
NOTE = re.compile(r"<!-- (exempt|raises): (.*?) -->")
RUN = ("python", "sh")


@dataclass
class Block:
    """A code block, and what was found before and after it."""

    language: str
    code: str
    line: int
    notes: dict[str, str] = field(default_factory=dict)
    output: str | None = None  # what it prints, according to the page
    output_span: tuple[int, int] = (0, 0)

    @property
    def runs(self):
        return self.language in RUN and "exempt" not in self.notes


def blocks_of(text):
    """Return the blocks of a page; a ``text`` block is what the one before prints."""
    found = []
    for match in PIECE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        if match["hidden"] is not None:
            found.append(Block("python", match["hidden"], line, {"hidden": "yes"}))
            continue
        language, notes = match["language"].strip(), dict(NOTE.findall(match["notes"]))
        if language == "text" and not notes and found and found[-1].runs:
            found[-1].output = match["code"]
            found[-1].output_span = match.span("code")
            continue
        found.append(Block(language, match["code"], line, notes))
    return found


def normal(output):
    """Return *output* without what differs from run to run: figures and folders."""
    output = re.sub(r"/\S*/tmp\w+|/tmp/\S+", "/folder", output)
    output = re.sub(r"[\d.,]*\d(?: ?(?:us|ms|s|m|hr|min|[kMG]i?B|B)\b)?", "#", output)
    # Columns are as wide as their content.
    return re.sub(r"[ \t\u2588-\u258f-]+", " ", output).strip()


def run_python(block, namespace):
    printed = io.StringIO()
    code = compile("\n" * block.line + block.code, "page", "exec")
    with contextlib.redirect_stdout(printed):
        try:
            exec(code, namespace)
        except BaseException as error:
            expected = block.notes.get("raises")
            if expected is None or type(error).__name__ != expected:
                traceback.print_exc()
                return None
            print(f"{type(error).__name__}: {error}")
        else:
            if "raises" in block.notes:
                print(f"line {block.line} raised nothing", file=sys.stderr)
                return None
    return printed.getvalue()


def run_shell(block):
    program, _, options = block.code.partition(" ")
    if program == "agatha-ckpt" and not re.search(r"[|>;&$\\]|\n.", options):
        return run_command(block, shlex.split(options))
    done = subprocess.run(
        ["bash", "-euc", block.code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    status = int(block.notes.get("raises", "0"))
    if done.returncode == status:
        return done.stdout
    print(done.stdout, file=sys.stderr)
    return None


def run_command(block, options):
    """Run the library's command line in this process, which takes less time."""
    from click.testing import CliRunner

    from agatha_ckpt._cli.main import main

    result = CliRunner().invoke(main, options, prog_name="agatha-ckpt")
    if result.exit_code == int(block.notes.get("raises", "0")):
        return result.output
    print(result.output, result.exception, file=sys.stderr)
    return None


def run_page(path):
    """Run the blocks of a page here; print what each of them prints, as JSON."""
    namespace = {"__name__": "__main__"}
    outputs = []
    for block in blocks_of(Path(path).read_text(encoding="utf-8")):
        output = None
        if block.runs:
            is_python = block.language == "python"
            output = run_python(block, namespace) if is_python else run_shell(block)
            if output is None:
                print(f"line {block.line} of {path} failed", file=sys.stderr)
                sys.exit(1)
        outputs.append(output)
    print(json.dumps(outputs))


def outputs_of(path):
    """Return what each block of a page printed, by running it as a program."""
    with tempfile.TemporaryDirectory() as folder:
        there = os.environ["PATH"]
        environment = os.environ | {
            # dask's default needs a guard in a script: a page chooses another one.
            "DASK_SCHEDULER": "not chosen by the page",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{there}",
            "COLUMNS": "88",
        }
        done = subprocess.run(
            [sys.executable, __file__, "--run", str(path.resolve())],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
    if done.returncode:
        raise AssertionError(f"{path}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def check_data(block):
    """Raise ValueError where a ``json`` or ``yaml`` block is not well-formed."""
    if block.language == "json":
        json.loads(block.code)
    elif block.language == "yaml":
        try:
            yaml.safe_load(block.code)
        except yaml.YAMLError as error:
            raise ValueError(error) from None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--run", action="store_true", help="here, in this folder")
    parser.add_argument("--write", action="store_true", help="outputs into the page")
    arguments = parser.parse_args()
    if arguments.run:
        run_page(arguments.page)
        return
    text = arguments.page.read_text(encoding="utf-8")
    blocks = blocks_of(text)
    outputs = outputs_of(arguments.page)
    for block, output in reversed(list(zip(blocks, outputs, strict=True))):
        if output and not arguments.write:
            print(f"line {block.line}:\n{output}")
        if block.output is not None and arguments.write:
            start, end = block.output_span
            text = text[:start] + output + text[end:]
    if arguments.write:
        arguments.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
