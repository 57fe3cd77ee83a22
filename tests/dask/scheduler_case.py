"""Run by test_schedulers: saves, resumes and loads in a bucket, by one scheduler.

Takes a case as JSON from its command line, and prints what it found as JSON.
"""

import contextlib
import json
import multiprocessing
import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import dask
import dask.bag
import fsspec

from agatha_ckpt import Checkpointer, CheckpointStore

PARTITIONS = 4


@dataclass(frozen=True)
class Compute:
    """Returns the records of a partition, and leaves a file that names its process."""

    notes: str

    def __dask_tokenize__(self):
        return "whatever the folder"

    def __call__(self, part):
        (index,) = part
        process = type(multiprocessing.current_process()).__name__
        who = {"partition": index, "pid": os.getpid(), "process": process}
        Path(self.notes, uuid.uuid4().hex).write_text(json.dumps(who))
        return ((index, i, {"text": f"é{i}"}) for i in range(500))


def make_bag(notes):
    numbers = dask.bag.from_sequence(range(PARTITIONS), partition_size=1)
    return numbers.map_partitions(Compute(str(notes)))


def make_store(root, options, injected):
    if injected:
        return CheckpointStore(root, fs=fsspec.filesystem("s3", **options))
    return CheckpointStore(root, storage_options=options)


@contextlib.contextmanager
def scheduled(scheduler, method, workers, folder):
    """Give the keywords by which a bag is computed as the case says."""
    if scheduler == "distributed":
        # Read when distributed is imported.
        dask.config.set({"distributed.worker.multiprocessing-method": method})
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=method is not None,
                host="127.0.0.1",
                protocol="tcp://",
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                local_directory=folder,
                silence_logs=50,  # on a busy machine it says how its own end went
            ) as cluster,
            Client(cluster),
        ):
            yield {}
    elif scheduler == "processes":
        with dask.config.set({"multiprocessing.context": method}):
            yield {"scheduler": scheduler, "num_workers": workers}
    else:
        yield {"scheduler": scheduler}


def make_partial(store, name, keep):
    """Remove the done marker and all but the first *keep* partitions."""
    folder = store.path(name)
    kept = tuple(f"part-{index:05}-" for index in range(keep))
    for path in store.fs.find(folder):
        if not path.rsplit("/", 1)[1].startswith(kept):
            store.fs.rm_file(path)


def main(folder, root, options, injected, scheduler, method, workers, keep):
    folder = Path(folder)
    notes = {name: folder / name for name in ("saved", "resumed")}
    for path in notes.values():
        path.mkdir()
    store = make_store(root, options, injected)
    checkpointer = Checkpointer(store, verbose=False)
    # The filesystem is in use, with its thread and its connections, before there are
    # workers to inherit it.
    found = {"pid": os.getpid(), "done before": store.is_done("x")}
    with scheduled(scheduler, method, workers, folder / "scratch") as compute_kw:
        checkpointer.checkpoint("x", make_bag(notes["saved"]), **compute_kw)
        make_partial(store, "x", keep)
        checkpointer.checkpoint("x", make_bag(notes["resumed"]), **compute_kw)
        loaded = checkpointer.checkpoint("x").compute(**compute_kw)
    found["records"] = repr(loaded)
    for name, path in notes.items():
        found[name] = [json.loads(note.read_text()) for note in path.iterdir()]
    print(json.dumps(found))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
