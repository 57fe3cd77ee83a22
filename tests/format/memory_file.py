"""A partition file in memory, as a codec reads it."""

from dataclasses import dataclass
from io import BytesIO

from agatha_ckpt._format.base import Attempt, WriteOptions
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.manifest import PartitionInfo
from agatha_ckpt._format.names import parse_filename
from tests.format.specification import BASE, FINGERPRINT, filename

WHERE = "partition 1 of checkpoint 'x'"


@dataclass
class MemoryFile:
    """The bytes of a partition file, under a name."""

    data: bytes
    filename: str = filename(1)
    remote: bool = False
    size: int = -1
    where: str = WHERE

    def __post_init__(self):
        self.name = parse_filename(self.filename)
        self.reads = []
        if self.size < 0:
            self.size = len(self.data)

    def open(self, piece=0):
        self.reads.append(piece)
        return BytesIO(self.data)

    def tail(self, count):
        self.reads.append(-count)
        return self.data[-count:]


def encode(records, form="msgpack", compression=None, allow_pickle=False, code=""):
    """Return *records* as partition 1 of 3: the file, and the manifest's entry."""
    codec, sink = codec_for(form), BytesIO()
    options = WriteOptions(form, 3, BASE, "", compression, allow_pickle)
    info = codec.encode(records, sink, Attempt(1, FINGERPRINT, options, WHERE, code))
    return MemoryFile(sink.getvalue(), info.file), info


def decode(file, info=None, form="msgpack", allow_pickle=False, piece=0):
    """Return the records of a file; without *info*, what the file itself states."""
    codec = codec_for(form)
    info = info or codec.inspect(file)
    options = {"allow_pickle": allow_pickle, "piece": piece}
    return [r for records in codec.decode(file, info, **options) for r in records]


def info_of(file, digest="0" * 32, records=0):
    """Return a manifest's entry for a file."""
    return PartitionInfo(file.filename, records, file.size, digest)
