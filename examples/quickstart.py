"""A pipeline that is computed once, then loads, and resumes after it was killed.

The text is the docstrings of Python's own standard library. Docstrings become
sentences, sentences become terms, and two terms that share a sentence become an edge.
Each step is a checkpoint. The program runs the pipeline twice, by the same function:

    python examples/quickstart.py                   # computes, then loads
    python examples/quickstart.py                   # loads twice
    python examples/quickstart.py --fresh           # clears, then as the first time

Kill it in the middle of a step, with its workers, and run it again. What was saved is
kept, and only what is missing is computed:

    python examples/quickstart.py --fresh --kill-after sentences
    python examples/quickstart.py

A done step is loaded, also after you edit its function: use --fresh then, or give the
step another version label, as "documents" has one.
"""

import argparse
import ast
import multiprocessing
import os
import platform
import re
import signal
import sysconfig
from itertools import combinations
from pathlib import Path
from time import perf_counter

import dask
import dask.bag as db
from dask.callbacks import Callback

from agatha_ckpt import Checkpointer

STEPS = ["documents", "sentences", "terms", "edges"]
STDLIB = Path(sysconfig.get_paths()["stdlib"])
# Tests, installed packages, a program, and generated tables.
SKIP = ["test", "tests", "site-packages", "dist-packages", "idlelib", "encodings"]
# Words without a meaning of their own, and words of every docstring.
COMMON = re.findall(
    "[a-z]+",
    """
    about after before being cannot could either every given having itself might never
    other should since their there these those through under until using where whether
    which while whose within without would

    argument arguments called class default example false function instance method
    module named object optional otherwise raise raised return returned returns string
    value values
    """,
)


def pipeline(ckpt):
    """Return the ten most frequent edges; load what is done, compute what is not."""
    files = db.from_sequence(source_files(), npartitions=16)
    documents = files.map(read_documents).flatten()
    # Another Python has other docstrings in files of the same names. The steps below
    # need no label: they are stale when the checkpoint they are built from changes.
    documents = ckpt.checkpoint(
        "documents", documents, version=platform.python_version()
    )

    sentences = documents.map(split_sentences).flatten()
    sentences = ckpt.checkpoint("sentences", sentences)

    terms = sentences.map(find_terms)
    terms = ckpt.checkpoint("terms", terms)

    # As text, one edge a line, for other programs; it loads as a bag of lines.
    edges = terms.map(pair_terms).flatten()
    ckpt.checkpoint("edges", edges, textfile=True)
    edges = ckpt.checkpoint("edges", verbose=False)

    # Counted in this process, which takes less time than starting others.
    top = edges.frequencies().topk(10, key=by_count)
    return top.compute(scheduler="sync")


def source_files():
    found = []
    for folder, subfolders, files in os.walk(STDLIB):
        subfolders[:] = [name for name in subfolders if name not in SKIP]
        found += [os.path.join(folder, name) for name in files if name.endswith(".py")]
    return sorted(os.path.relpath(path, STDLIB) for path in found)


def read_documents(file):
    try:
        tree = ast.parse((STDLIB / file).read_bytes())
    except (SyntaxError, ValueError):
        return []  # some files of the standard library are wrong on purpose
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    found = [(getattr(node, "lineno", 1), ast.get_docstring(node)) for node in nodes]
    return [(f"{file}:{line}", text) for line, text in found if text]


def split_sentences(document):
    where, text = document
    prose = re.sub(r"^\s*(>>>|\.\.\.).*", "", text, flags=re.MULTILINE)
    pieces = re.split(r"(?<=[.!?])\s+|\n\s*\n", prose)
    return [(where, " ".join(piece.split())) for piece in pieces if piece.strip()]


def find_terms(sentence):
    _, text = sentence
    words = set(re.findall("[a-z]{5,}", text.lower()))
    return sorted(words.difference(COMMON))


def pair_terms(terms):
    return [f"{first} {second}" for first, second in combinations(terms, 2)]


def by_count(item):
    edge, count = item
    return count, edge


class KillDuring(Callback):
    """Kill this program and its workers when a third of a checkpoint is saved."""

    def __init__(self, ckpt, name):
        super().__init__()
        self.ckpt, self.name = ckpt, name

    def _posttask(self, *task):
        status = self.ckpt.status(self.name)
        if status.state == "partial" and 3 * status.partitions >= status.expected:
            saved = f"{status.partitions} of {status.expected} partitions"
            print(f"\t- Killed, with at least {saved} saved", flush=True)
            for worker in multiprocessing.active_children():
                worker.kill()
            os.kill(os.getpid(), signal.SIGKILL)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        default="quickstart-checkpoints",
        help="path or URL of the root (default: %(default)s)",
    )
    parser.add_argument("--fresh", action="store_true", help="clear them first")
    parser.add_argument(
        "--kill-after",
        metavar="NAME",
        choices=STEPS,
        help=f"be killed when a third of this step is saved: {', '.join(STEPS)}",
    )
    args = parser.parse_args()

    ckpt = Checkpointer(args.root, on_stale="recompute")
    print(f"Checkpoints under {args.root}")
    if args.fresh:
        for name in STEPS:
            ckpt.clear(name)
    if args.kill_after:
        if ckpt.is_done(args.kill_after):
            parser.error(f"{args.kill_after} is done already; add --fresh")
        # Few workers, so that partitions are missing when the kill comes.
        dask.config.set(num_workers=2)
        KillDuring(ckpt, args.kill_after).register()

    seconds, computed = [], []
    for title in ["First pass", "Second pass"]:
        before = {name: ckpt.status(name).created for name in STEPS}
        done = [name for name in STEPS if before[name]]
        print(f"\n{title}; done already: {', '.join(done) or 'nothing'}")
        started = perf_counter()
        edges = pipeline(ckpt)
        seconds.append(perf_counter() - started)
        computed.append(sum(ckpt.status(n).created != before[n] for n in STEPS))

    print("\nTerms that most often share a sentence")
    for edge, count in edges:
        print(f"{count:8,}  {edge}")

    print(f"\nFirst pass:  {seconds[0]:5.2f} s, {computed[0]} steps computed")
    print(f"Second pass: {seconds[1]:5.2f} s, {computed[1]} steps computed", end="")
    ratio = seconds[0] / seconds[1]
    print(f", {ratio:.1f} times as fast" if computed[0] else "; --fresh starts over")


if __name__ == "__main__":
    main()
