"""Pipeline functions that are given a Checkpointer, and two of them in one program.

A Checkpointer is a value: a store and settings. Functions that take one can be tried in
a scratch folder, run on a bucket, and run twice in one process independently. The text
is the reference manual of the Python language, which Python carries for its ``help()``.

    python examples/explicit_pipeline.py
    python examples/explicit_pipeline.py --root memory://manual

The second line keeps everything in memory: any fsspec URL works. The program clears the
checkpoints that it uses, so that it prints the same each time.
"""

import argparse
import re
import warnings
from collections import Counter
from pydoc_data.topics import topics

import dask
import dask.bag as db

from agatha_ckpt import (
    CheckpointConflictError,
    Checkpointer,
    CheckpointStore,
    CorruptCheckpointError,
)


def find_words(topic, shortest):
    _, text = topic
    return [w for w in re.findall(r"[a-z]+", text.lower()) if len(w) >= shortest]


def manual_words(shortest):
    manual = db.from_sequence(sorted(topics.items()), npartitions=4)
    return manual.map(find_words, shortest).flatten()


def count_words(ckpt, shortest=8, **settings):
    """Return the words of the manual with their counts."""
    words = ckpt.checkpoint("words", manual_words(shortest), **settings)
    return ckpt.checkpoint("counts", words.frequencies(), **settings)


def two_at_once(loud, quiet):
    headline("Two Checkpointers: one prints what it does, the other compresses")
    same = dict(count_words(loud)) == dict(count_words(quiet))
    print(f"\nBoth hold the same counts: {same}")
    for title, ckpt in [("loud", loud), ("quiet", quiet)]:
        print(f"\n{title}: {ckpt.settings}")
        for name in ckpt.names():
            status = ckpt.status(name)
            print(f"{name:>8} is {status.state}: ", end="")
            print(f"{status.records:,} records in {status.bytes:,} bytes")


def changed_argument(ckpt):
    headline("Another argument makes the checkpoint stale: on_stale decides")
    print("on_stale='warn', the default, loads what is stored:")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count_words(ckpt, shortest=12)
    for warning in caught:
        print(f"\t- {warning.category.__name__}: {warning.message}")

    print("\non_stale='error' raises CheckpointConflictError:")
    try:
        count_words(ckpt, shortest=12, on_stale="error")
    except CheckpointConflictError as error:
        print(f"\t- {error}")

    print("\non_stale='recompute' computes what differs, and what was built from it:")
    counts = count_words(ckpt, shortest=12, on_stale="recompute")
    print(f"Long words: {counts.count().compute()}")


def damage_and_repair(ckpt):
    headline("A flipped bit is found by a load, and repaired from the bag")
    fs, folder = ckpt.store.fs, ckpt.store.path("words")
    file = fs.glob(f"{folder}/part-00001-*")[0]
    data = bytearray(fs.cat_file(file))
    data[len(data) // 2] ^= 1
    fs.pipe_file(file, bytes(data))

    words = ckpt.checkpoint("words")
    try:
        words.frequencies().compute()
    except CorruptCheckpointError as error:
        print(f"CorruptCheckpointError: {error}")
    print(f"damaged: {ckpt.store.verify('words')}")
    ckpt.repair("words", manual_words(shortest=12))
    print(f"damaged: {ckpt.store.verify('words')}")


def independent(quiet):
    headline("The quiet one is independent of all that")
    counts = Counter(dict(quiet.checkpoint("counts")))
    print(f"{len(counts):,} words")
    for word, count in counts.most_common(5):
        print(f"{count:8,}  {word}")


def headline(text):
    print(f"\n{text}\n{'-' * len(text)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        default="explicit-checkpoints",
        help="path or URL of the folder for the two roots (default: %(default)s)",
    )
    root = parser.parse_args().root
    print(f"Checkpoints under {root}/loud and {root}/quiet")

    loud = Checkpointer(CheckpointStore(f"{root}/loud"))
    quiet = Checkpointer(
        CheckpointStore(f"{root}/quiet"), verbose=False, compression="zstd"
    )
    for ckpt in [loud, quiet]:
        ckpt.clear("words")
        ckpt.clear("counts")

    # The manual is small: threads are enough.
    dask.config.set(scheduler="threads")
    two_at_once(loud, quiet)
    changed_argument(loud)
    damage_and_repair(loud)
    independent(quiet)


if __name__ == "__main__":
    main()
