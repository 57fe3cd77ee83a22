"""The ways to store a bag that are compared: this library and its alternatives.

Each is used as its own documentation says, with its defaults. None of them but this
library has checksums, files that appear when they are whole, or a marker; JSON, Avro
and Parquet give back other types than they were given (lists for tuples and for
arrays), and no restoring of them is timed.
"""

import json
import os
import pickle
import shutil
import sys
import uuid
from functools import partial
from importlib.util import find_spec
from operator import itemgetter

import dask
import dask.bag

from agatha_ckpt import Checkpointer, CheckpointStore
from tests.benchmarks.workloads import drain, made, touch

NAME = "records"


class Contestant:
    """A way to store a bag in a folder, load it again, and count it.

    *job* is a workload with its number of partitions; *use* are the keywords for
    dask's ``compute``.
    """

    name = ""
    packages = ()

    def missing(self):
        """Return what is not installed here, or None."""
        absent = [package for package in self.packages if find_spec(package) is None]
        return f"{', '.join(absent)} not installed" if absent else ""

    def save(self, job, root, use):
        raise NotImplementedError

    def loaded(self, job, root):
        """Return the bag that loads what was saved."""
        raise NotImplementedError

    def touch(self, job, root, use):
        return sum(self.loaded(job, root).map_partitions(touch).compute(**use))

    def count(self, job, root, use):
        return self.loaded(job, root).count().compute(**use)


class Ours(Contestant):
    """This library."""

    def __init__(self, fsync):
        self.name = "agatha_ckpt" if fsync else "agatha_ckpt, fsync=False"
        self.fsync = fsync

    def _checkpointer(self, root):
        return Checkpointer(CheckpointStore(root, fsync=self.fsync), verbose=False)

    def save(self, job, root, use):
        self._checkpointer(root).checkpoint(NAME, job.bag, **use)

    def loaded(self, job, root):
        return self._checkpointer(root).checkpoint(NAME)


class Pickle(Contestant):
    """One pickle for each partition, by delayed functions.

    The partitions are lists, because a lazy one cannot go where dask may send it
    between the function that computes and the one that stores. On the process scheduler
    it would always go to the driver and back; there it is one function, as somebody
    would do who had seen that.
    """

    name = "pickle per partition"

    def save(self, job, root, use):
        root.mkdir()
        if use.get("scheduler") == "processes":
            job.bag.map_partitions(dump_pickle, root).compute(**use)
            return
        dump = dask.delayed(dump_pickle)
        parts = job.bag.map_partitions(list).to_delayed()
        dask.compute([dump(part, root) for part in parts], **use)

    def loaded(self, job, root):
        load = dask.delayed(load_pickle)
        paths = sorted(map(str, root.iterdir()))
        return dask.bag.from_delayed([load(path) for path in paths])


def dump_pickle(part, root):
    with open(f"{root}/{uuid.uuid4().hex}.pkl", "wb") as file:
        pickle.dump(list(part), file, protocol=pickle.HIGHEST_PROTOCOL)
    return [0]


def load_pickle(path):
    with open(path, "rb") as file:
        return pickle.load(file)


class JsonLines(Contestant):
    """dask's text files, with one JSON document a line."""

    name = "JSON lines"

    def save(self, job, root, use):
        bag = job.bag.map(as_lists) if job.name == "vectors" else job.bag
        bag.map(json.dumps).to_textfiles(f"{root}/*.json", **use)

    def loaded(self, job, root):
        return dask.bag.read_text(f"{root}/*.json").map(json.loads)


def as_lists(record):
    return {"id": record["id"], "vector": record["vector"].tolist()}


class Avro(Contestant):
    """dask's Avro files."""

    name = "Avro"
    packages = ("fastavro",)

    def save(self, job, root, use):
        bag = job.bag
        if job.name in AS_AVRO:
            bag = bag.map(AS_AVRO[job.name])
        fields = [{"name": k, "type": v} for k, v in AVRO_TYPES[job.name].items()]
        schema = {"name": "Record", "doc": "", "type": "record", "fields": fields}
        bag.to_avro(f"{root}/*.avro", schema, **use)

    def loaded(self, job, root):
        bag = dask.bag.read_avro(f"{root}/*.avro")
        return bag.map(itemgetter("text")) if job.name == "strings" else bag


def as_fields(record):
    return dict(zip(("source", "target", "weight"), record, strict=True))


def as_text(record):
    return {"text": record}


AS_AVRO = {"tuples": as_fields, "strings": as_text, "vectors": as_lists}
_ENTITY = {
    "name": "Entity",
    "type": "record",
    "fields": [{"name": "start", "type": "long"}, {"name": "label", "type": "string"}],
}
AVRO_TYPES = {
    "sentences": {
        "id": "string",
        "text": "string",
        "year": "long",
        "score": "double",
        "terms": {"type": "array", "items": "string"},
        "entities": {"type": "array", "items": _ENTITY},
        "language": "string",
    },
    "tuples": {"source": "string", "target": "string", "weight": "double"},
    "strings": {"text": "string"},
    "vectors": {"id": "string", "vector": {"type": "array", "items": "float"}},
}


class Parquet(Contestant):
    """dask's data frames, in Parquet files."""

    name = "Parquet"
    packages = ("pandas", "pyarrow")

    def save(self, job, root, use):
        frame = job.bag.to_dataframe(meta=FRAME_TYPES[job.name])
        frame.to_parquet(
            str(root), schema=_schema(job.name), write_index=False, compute_kwargs=use
        )

    def _frame(self, root):
        import dask.dataframe

        return dask.dataframe.read_parquet(str(root))

    def loaded(self, job, root):
        frame = self._frame(root)
        if job.name == "strings":
            return frame["text"].to_bag()
        return frame.to_bag(format="tuple" if job.name == "tuples" else "dict")

    def count(self, job, root, use):
        return len(self._frame(root))  # from the footers of the files


FRAME_TYPES = {
    "sentences": {
        "id": str,
        "text": str,
        "year": int,
        "score": float,
        "terms": object,
        "entities": object,
        "language": str,
    },
    "tuples": {"source": str, "target": str, "weight": float},
    "strings": {"text": str},
    "vectors": {"id": str, "vector": object},
}


def _schema(name):
    import pyarrow as pa

    text, entity = pa.string(), {"start": pa.int64(), "label": pa.string()}
    columns = {
        "sentences": {
            "id": text,
            "text": text,
            "year": pa.int64(),
            "score": pa.float64(),
            "terms": pa.list_(text),
            "entities": pa.list_(pa.struct(entity)),
            "language": text,
        },
        "tuples": {"source": text, "target": text, "weight": pa.float64()},
        "strings": {"text": text},
        "vectors": {"id": text, "vector": pa.list_(pa.float32())},
    }
    return pa.schema(columns[name])


class Joblib(Contestant):
    """joblib's Memory around the function that makes a partition."""

    name = "joblib.Memory"
    packages = ("joblib",)

    def _remembered(self, job, root):
        import joblib

        make = joblib.Memory(root, verbose=0).cache(make_list)
        count = job.npartitions
        numbers = dask.bag.from_sequence(range(count), npartitions=count)
        return numbers.map_partitions(
            partial(call_with_index, make, job.workload.parse, job.path)
        )

    def save(self, job, root, use):
        root.mkdir()
        self._remembered(job, root).map_partitions(drain).compute(**use)

    def loaded(self, job, root):
        return self._remembered(job, root)


def make_list(parse, path, index):
    return list(parse(path))


def call_with_index(make, parse, path, part):
    (index,) = part
    return make(parse, path, index)


class Spark(Contestant):
    """Spark's pickle files, of the same records made by Spark's own workers."""

    name = "Spark"
    packages = ("pyspark",)

    def __init__(self, processes):
        self._processes = processes
        self._context = None

    def missing(self):
        if absent := super().missing():
            return absent
        java = shutil.which("java")
        if java is None and "JAVA_HOME" not in os.environ:
            return "no Java"
        return ""

    @property
    def context(self):
        if self._context is None:
            os.environ["PYSPARK_PYTHON"] = sys.executable
            os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
            os.environ["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
            from pyspark import SparkConf, SparkContext

            conf = SparkConf().setMaster(f"local[{self._processes}]")
            conf.set("spark.ui.enabled", "false")
            conf.set("spark.ui.showConsoleProgress", "false")
            conf.set("spark.log.level", "ERROR")
            conf.set("spark.driver.memory", "2g")
            self._context = SparkContext(conf=conf)
        return self._context

    def stop(self):
        if self._context is not None:
            self._context.stop()

    def _records(self, job):
        numbers = self.context.parallelize(range(job.npartitions), job.npartitions)
        make = partial(made, job.workload.parse, job.path)
        return numbers.mapPartitions(make)

    def compute(self, job):
        """Only make the records, as a save does first."""
        self._records(job).foreachPartition(drain)

    def save(self, job, root, use):
        self._records(job).saveAsPickleFile(str(root))

    def touch(self, job, root, use):
        return self.context.pickleFile(str(root)).mapPartitions(touch).sum()

    def count(self, job, root, use):
        return self.context.pickleFile(str(root)).count()


def contestants(processes):
    return [
        Ours(fsync=True),
        Ours(fsync=False),
        Pickle(),
        JsonLines(),
        Avro(),
        Parquet(),
        Joblib(),
        Spark(processes),
    ]
