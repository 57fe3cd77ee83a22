"""Pipeline functions that are given a Checkpointer, and two of them in one program.

A Checkpointer is a value like any other: a store and settings. Functions that take
one can be tried out in a scratch folder, run for real on a bucket, and run twice in
one process without touching each other. The text is the reference manual of the
Python language, which Python itself carries for its ``help()``.

    python examples/explicit_pipeline.py
    python examples/explicit_pipeline.py --root memory://manual

The second line keeps everything in memory: any fsspec URL will do. The program
clears the few checkpoints that it uses, so that it shows the same each time.
"""

import argparse
import re
import tempfile
from collections import Counter
from pathlib import Path
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


def count_words(ckpt, shortest=8):
    """Return the words of the manual with their counts."""
    # What the records depend on, and dask's graph does not show, goes in the label.
    label = f"shortest={shortest}"
    words = ckpt.checkpoint("words", manual_words(shortest), version=label)
    return ckpt.checkpoint("counts", words.frequencies())


def two_at_once(loud, quiet):
    headline("Two Checkpointers: one says what it does, the other is silent and small")
    same = dict(count_words(loud)) == dict(count_words(quiet))
    print(f"\nBoth hold the same counts: {same}")
    for title, ckpt in [("loud", loud), ("quiet", quiet)]:
        print(f"\n{title}: {ckpt.settings}")
        for name in ckpt.names():
            status = ckpt.status(name)
            print(f"{name:>8} is {status.state}: ", end="")
            print(f"{status.records:,} records in {status.bytes:,} bytes", end="")
            print(f", version {status.version!r}")


def changed_parameters(ckpt):
    headline("Another version label: on_stale says what then happens")
    print("on_stale='warn', the default, loads what is there and says why:")
    count_words(ckpt, shortest=12)

    print("\non_stale='error' raises CheckpointConflictError:")
    ckpt.configure(on_stale="error")
    try:
        count_words(ckpt, shortest=12)
    except CheckpointConflictError as error:
        print(f"\t- {error}")

    print("\non_stale='recompute' computes it again, and what was built from it:")
    ckpt.configure(on_stale="recompute")
    print(f"Long words: {count_words(ckpt, shortest=12).count().compute()}")
    ckpt.configure(on_stale="warn")


def damage_and_repair(ckpt):
    headline("A flipped bit is found when it is read, and repaired from the bag")
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


def untouched(quiet):
    headline("The quiet one saw nothing of all that")
    counts = Counter(dict(quiet.checkpoint("counts")))
    print(f"version {quiet.status('words').version!r}, {len(counts):,} words")
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
        default=str(Path(tempfile.gettempdir(), "agatha-ckpt-explicit")),
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

    # The manual is small: threads do, and no processes need to start.
    dask.config.set(scheduler="threads")
    two_at_once(loud, quiet)
    changed_parameters(loud)
    damage_and_repair(loud)
    untouched(quiet)


if __name__ == "__main__":
    main()
