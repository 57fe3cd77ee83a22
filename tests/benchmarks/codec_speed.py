"""How fast is the codec in memory, against pickle and with the slower checksum?

    python -m tests.benchmarks.codec_speed [--quick] [--scale 0.25] [--only vectors]

Encoding is a whole partition file into memory, against ``pickle.dumps`` of the list at
protocol 5; decoding iterates over every record, against ``pickle.loads``. Where isal is
installed (the extra ``fast``), the codec runs with zlib's CRC-32 as well. Above 1 says
how many times as long pickle, or the codec with zlib, takes.
"""

import pickle
import zlib
from io import BytesIO

from agatha_ckpt._format import framing, partition_file
from agatha_ckpt._format.base import Attempt, WriteOptions
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.names import parse_filename
from tests.benchmarks import common
from tests.benchmarks.workloads import WORKLOADS

CODEC = codec_for("msgpack")
FINGERPRINT = "0" * 32
CRC32 = framing.crc32


class Encoded:
    """The file of partition 0 of one, in memory, as a codec reads it."""

    where = "partition 0"
    remote = False

    def __init__(self, records):
        sink = BytesIO()
        attempt = Attempt(0, FINGERPRINT, WriteOptions("msgpack", 1), self.where)
        self.info = CODEC.encode(records, sink, attempt)
        self.data = sink.getvalue()
        self.size = len(self.data)
        self.filename = self.info.file
        self.name = parse_filename(self.filename)

    def open(self, piece=0):
        return BytesIO(self.data)

    def tail(self, count):
        return self.data[-count:]

    def touch(self):
        """Decode the file and iterate over its records."""
        for block in CODEC.decode(self, self.info, allow_pickle=False):
            for _ in block:
                pass


class Case:
    """The records of a partition, in memory."""

    def __init__(self, prepared):
        self.records = list(prepared.records())
        self.encoded = Encoded(self.records)
        self.pickled = pickle.dumps(self.records, protocol=5)

    def codec(self, crc32=CRC32):
        partition_file.crc32 = framing.crc32 = crc32
        return {
            "save": common.seconds(Encoded, self.records),
            "load": common.seconds(self.encoded.touch),
        }

    def zlib(self):
        return self.codec(zlib.crc32)

    def pickle(self):
        return {
            "save": common.seconds(pickle.dumps, self.records, protocol=5),
            "load": common.seconds(pickle.loads, self.pickled),
        }


def main():
    arguments = common.parser(__doc__).parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 15)
    scale = 0.02 if arguments.quick else arguments.scale
    report = common.Report("codec_speed.py", arguments)
    others = ["pickle"] if CRC32 is zlib.crc32 else ["pickle", "zlib"]
    tables = {who: [] for who in others}
    with common.folder(arguments) as root:
        for name, workload in WORKLOADS.items():
            if not common.is_wanted(arguments, name):
                continue
            report.say(name)
            case = Case(workload.prepared(root, scale))
            contestants = {who: getattr(case, who) for who in ["codec", *others]}
            samples = common.in_turn(contestants, rounds, report, warm=True)
            for who in others:
                found = {
                    what: common.ratio(samples[who, what], samples["codec", what])
                    for what in ("save", "load")
                }
                for what, ratio in found.items():
                    report.row(records=name, who=who, what=what, ratio=ratio)
                tables[who].append([name, *found.values()])
    for who, table in tables.items():
        report.table(
            f"Time of {who} over the codec", ["records", "save", "load"], table
        )
    report.finish()


if __name__ == "__main__":
    main()
