r"""The pipeline of the quickstart in a bucket, on a cluster that loses a worker.

The workers of a dask.distributed cluster write the partitions straight to the bucket;
the driver writes the done markers. While the first step is saved, one worker is killed.
The scheduler gives its task to another one, what was stored stays, and the pipeline
ends as usual. Then it runs once more, and loads everything. A table shows how many
partitions were stored, and how many were begun: a few more, where the worker was
killed.

    python examples/cluster_s3.py

This starts an S3 server (moto, in memory) and a cluster of four processes on this
machine, and ends both. It takes a bucket and a cluster of yours as well, and kills
nothing on them. A gs:// root works in the same way:

    python examples/cluster_s3.py --root s3://bucket/run-1
    python examples/cluster_s3.py --root s3://bucket/run-1 \
        --storage-options '{"endpoint_url": "https://minio.example.org"}'
    python examples/cluster_s3.py --root gs://bucket/run-1 --scheduler tcp://host:8786

If the root holds the steps already, they are loaded twice. A bucket of yours must
exist, and what is saved in it stays there.
"""

import argparse
import ast
import itertools
import json
import logging
import multiprocessing
import os
import platform
import re
import signal
import sys
import sysconfig
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from itertools import combinations, pairwise
from pathlib import Path
from urllib.request import Request, urlopen

import dask.bag as db

from agatha_ckpt import Checkpointer, CheckpointStore

STEPS = ["documents", "sentences", "terms", "edges"]
TOPIC = "agatha-ckpt-example"
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
    documents = ckpt.checkpoint(
        "documents", counted("documents", documents), version=platform.python_version()
    )

    sentences = documents.map(split_sentences).flatten()
    sentences = ckpt.checkpoint("sentences", counted("sentences", sentences))

    terms = sentences.map(find_terms)
    terms = ckpt.checkpoint("terms", counted("terms", terms))

    edges = terms.map(pair_terms).flatten()
    ckpt.checkpoint("edges", counted("edges", edges), textfile=True)
    edges = ckpt.checkpoint("edges", verbose=False)

    return edges.frequencies().topk(10, key=by_count).compute()


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


def counted(step, bag):
    """Return *bag*, whose workers log an event when they begin a partition."""
    return bag.map_partitions(log_begun, step)


def log_begun(records, step):
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(TOPIC, {"step": step, "worker": worker.address})
    return records


def begun(client):
    """Return how many partitions of each step were begun, since the cluster began."""
    return Counter(event["step"] for _, event in client.get_events(TOPIC))


@contextmanager
def s3_server():
    """Run an S3 server in another process; yield a bucket and its options."""
    # A child of "spawn" holds only its own end of the pipe, so that the pipe closes
    # when this process ends, whatever the reason.
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    process = context.Process(target=serve_s3, args=(its,))
    process.start()
    its.close()
    try:
        url = ours.recv()
        # Not by s3fs, which needs a region for that.
        urlopen(Request(f"{url}/bucket", method="PUT")).close()
        yield "s3://bucket", {"key": "any", "secret": "any", "endpoint_url": url}
    finally:
        ours.close()
        process.join()


def serve_s3(pipe):
    from moto.server import ThreadedMotoServer

    logging.disable()  # of each request
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when the pipe does
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with suppress(EOFError, OSError):
        pipe.send("http://{}:{}".format(*server.get_host_and_port()))
        pipe.recv()  # until the pipe closes
    server.stop()


@contextmanager
def own_cluster():
    """Run a cluster of four processes on this machine; yield its client."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=4,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tcp://",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs="CRITICAL",  # it logs much about a lost worker
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def killing_a_worker(client):
    """Kill the worker of our own cluster that begins the fifth partition."""
    pids = client.run(os.getpid)
    events = itertools.count(1)

    def kill(event):
        _, content = event
        if next(events) == 5:
            os.kill(pids[content["worker"]], signal.SIGKILL)
            print(f"\t- Killed 1 of {len(pids)} workers")

    client.subscribe_topic(TOPIC, kill)
    try:
        yield
    finally:
        client.unsubscribe_topic(TOPIC)


def missing_packages(root):
    """Return the packages to install for a root."""
    needed = {"distributed": "distributed"}
    protocol = (root or "s3:").split(":")[0]
    if filesystem := {"s3": "s3fs", "gs": "gcsfs"}.get(protocol):
        needed[filesystem] = filesystem
    if root is None:
        needed |= {"moto": "'moto[server]'", "flask": "'moto[server]'"}
    found = [package for name, package in needed.items() if find_spec(name) is None]
    return sorted(set(found))


def json_object(text):
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        metavar="URL",
        help="root of the checkpoints (default: on a server of its own)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a dask.distributed cluster (default: one of its own)",
    )
    parser.add_argument(
        "--storage-options",
        metavar="JSON",
        type=json_object,
        help="for the filesystem of the root, as fsspec takes them",
    )
    args = parser.parse_args()
    if args.storage_options and args.root is None:
        parser.error("--storage-options needs --root")
    if missing := missing_packages(args.root):
        sys.exit(f"This example needs more: pip install {' '.join(missing)}")

    with ExitStack() as running:
        root, options = args.root, args.storage_options
        if root is None:
            bucket, options = running.enter_context(s3_server())
            root = f"{bucket}/run-1"
        ckpt = Checkpointer(
            CheckpointStore(root, storage_options=options), on_stale="recompute"
        )
        if args.scheduler is None:
            client = running.enter_context(own_cluster())
        else:
            from distributed import Client

            client = running.enter_context(Client(args.scheduler))
        same = two_passes(ckpt, client, kill=args.scheduler is None)
    sys.exit(0 if same else 1)


def two_passes(ckpt, client, kill):
    """Run the pipeline twice; return whether the results are the same."""
    workers = len(client.nthreads())
    print(f"Checkpoints under {ckpt.store.root}, {workers} workers")

    results, counts = [], [begun(client)]
    for title in ["First pass", "Second pass"]:
        done = [name for name in STEPS if ckpt.is_done(name)]
        print(f"\n{title}; done already: {', '.join(done) or 'nothing'}")
        with ExitStack() as during:
            if kill and STEPS[0] not in done:
                during.enter_context(killing_a_worker(client))
            results.append(pipeline(ckpt))
        counts.append(begun(client))
        ckpt.configure(verbose=False)  # the table shows the second pass

    first, second = (after - before for before, after in pairwise(counts))
    print("\n           partitions   begun to compute in the")
    print("               stored   first pass  second pass")
    for name in STEPS:
        stored = ckpt.status(name).partitions
        print(f"{name:11}{stored:10}{first[name]:13}{second[name]:13}")

    print("\nTerms that most often share a sentence")
    for edge, count in results[0][:3]:
        print(f"{count:8,}  {edge}")
    same = results[0] == results[1]
    print(f"Both passes agree: {same}")
    return same


if __name__ == "__main__":
    main()
