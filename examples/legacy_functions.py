"""The function API, in the shape of Agatha's own pipeline.

The package has the functions of Agatha's module: a root, and ``ckpt("name", prefix)``,
which replaces the local variable of that name by its checkpoint. One pipeline function
serves two corpora under two prefixes. Here the corpora are the docstrings of two groups
of standard modules.

    python examples/legacy_functions.py
    python examples/legacy_functions.py --fresh --halt-after net_sentences
    python examples/legacy_functions.py

The second line stops after one checkpoint, with status 0; the third continues from
there.
"""

import argparse
import inspect
import re
from importlib import import_module
from itertools import combinations

import dask
import dask.bag as db

import agatha_ckpt as checkpoint

CORPORA = {
    "text": ["argparse", "csv", "difflib", "json", "re", "string", "textwrap"],
    "net": ["http.client", "http.server", "smtplib", "socket", "ssl", "urllib.request"],
}
STEPS = ["documents", "sentences", "terms", "edges", "weights"]


def read_documents(module_name):
    module = import_module(module_name)
    found = [(module_name, module.__doc__)]
    for name, value in inspect.getmembers(module, callable):
        if getattr(value, "__module__", None) == module_name:
            found.append((f"{module_name}.{name}", value.__doc__))
    return [(name, text) for name, text in found if text]


def split_sentences(document):
    name, text = document
    pieces = re.split(r"(?<=[.!?])\s+|\n\s*\n", text)
    return [(name, " ".join(piece.split())) for piece in pieces if piece.strip()]


def find_terms(sentence):
    _, text = sentence
    return sorted(set(re.findall(r"[a-z]{6,}", text.lower())))


def pair_terms(terms):
    return list(combinations(terms, 2))


def document_pipeline(modules, prefix):
    """Return the edges between the terms of a corpus, with their weights."""
    documents = db.from_sequence(modules, npartitions=3).map(read_documents).flatten()
    checkpoint.ckpt("documents", prefix)

    sentences = documents.map(split_sentences).flatten()
    checkpoint.ckpt("sentences", prefix)

    terms = sentences.map(find_terms)
    checkpoint.ckpt("terms", prefix)

    edges = terms.map(pair_terms).flatten()
    checkpoint.ckpt("edges", prefix)

    weights = edges.frequencies()
    checkpoint.ckpt("weights", prefix)
    return weights


def by_weight(item):
    edge, weight = item
    return weight, edge


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        default="legacy-checkpoints",
        help="path or URL of the root (default: %(default)s)",
    )
    parser.add_argument("--fresh", action="store_true", help="clear them first")
    names = [f"{prefix}_{step}" for prefix in CORPORA for step in STEPS]
    parser.add_argument(
        "--halt-after",
        metavar="NAME",
        choices=names,
        help=f"stop after this checkpoint: {', '.join(names)}",
    )
    args = parser.parse_args()

    checkpoint.set_root(args.root)
    print(f"Checkpoints under {checkpoint.get_root()}")
    if args.fresh:
        for name in names:
            checkpoint.clear_ckpt(name)
    if args.halt_after:
        checkpoint.set_halt_point(args.halt_after)

    # The corpora are small: this process is enough.
    dask.config.set(scheduler="sync")
    weights = {
        prefix: document_pipeline(modules, prefix)
        for prefix, modules in CORPORA.items()
    }

    for prefix, bag in weights.items():
        print(f"\nTerms of {prefix!r} that most often share a sentence")
        for (first, second), weight in bag.topk(4, key=by_weight):
            print(f"{weight:6}  {first} {second}")

    checkpoint.set_verbose(False)
    names = sorted(checkpoint.get_checkpoints_like("*_sentences"))
    sentences = db.concat([checkpoint.checkpoint(name) for name in names])
    print(f"\n{sentences.count().compute():,} sentences in {' and '.join(names)}")


if __name__ == "__main__":
    main()
