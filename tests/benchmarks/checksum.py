"""How much faster is a save with the checksums of the extra ``fast``?

    python -m tests.benchmarks.checksum [--quick] [--scale 0.25] [--only vectors]

A partition is encoded into memory, and decoded from there, by the same code; in turn
with zlib's CRC-32 and with isal's. Above 1 says how many times as long zlib's takes.
"""

import sys
import zlib
from io import BytesIO

from agatha_ckpt._format import codec as _codec
from agatha_ckpt._format import framing as _envelope
from agatha_ckpt._format.codec import decode_partition, encode_partition
from agatha_ckpt._format.framing import FOOTER_BYTES, Header
from tests.benchmarks import common
from tests.benchmarks.workloads import WORKLOADS

HEADER, WHERE = Header("00000000", 0, 1), "the partition"
try:
    from isal.isal_zlib import crc32 as isals
except ImportError:
    sys.exit("isal is not installed; pip install 'agatha-ckpt[fast]' brings it")


class Case:
    """The records of a partition, in memory, and encoded."""

    def __init__(self, prepared):
        self.records = list(prepared.records())
        self.encoded = self.encode()

    def encode(self):
        sink = BytesIO()
        encode_partition(self.records, sink, HEADER, allow_pickle=False, where=WHERE)
        return sink.getvalue()

    def decode(self):
        source, size = BytesIO(self.encoded), len(self.encoded)
        for _ in decode_partition(
            source, size, HEADER, allow_pickle=False, where=WHERE
        ):
            pass

    def timed(self, crc32):
        _codec.crc32 = _envelope.crc32 = crc32
        # The footer holds a time and its own checksum.
        assert self.encode()[:-FOOTER_BYTES] == self.encoded[:-FOOTER_BYTES]
        return {
            "save": common.seconds(self.encode),
            "load": common.seconds(self.decode),
        }


def main():
    arguments = common.parser(__doc__).parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 21)
    scale = 0.02 if arguments.quick else arguments.scale
    report = common.Report("checksum.py", arguments)
    table = []
    with common.folder(arguments) as root:
        for name, workload in WORKLOADS.items():
            if not common.is_wanted(arguments, name):
                continue
            report.say(name)
            case = Case(workload.prepared(root, scale))
            contestants = {
                "zlib": lambda case=case: case.timed(zlib.crc32),
                "isal": lambda case=case: case.timed(isals),
            }
            samples = common.in_turn(contestants, rounds, report, warm=True)
            found = {
                what: common.ratio(samples["zlib", what], samples["isal", what])
                for what in ("save", "load")
            }
            for what, ratio in found.items():
                report.row(records=name, what=what, ratio=ratio)
                report.target(f"{what}, {name}", ratio, at_least=1)
            table.append([name, *found.values()])
    report.table("Time with zlib's, against isal's", ["records", "save", "load"], table)
    report.finish()


if __name__ == "__main__":
    main()
