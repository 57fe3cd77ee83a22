"""How much faster is a save with the checksums of the extra ``fast``?

    python -m tests.benchmarks.checksum [--quick] [--scale 0.25] [--only vectors]

A partition is encoded into memory, and decoded from there, by the same code; in turn
with zlib's CRC-32 and with isal's. Above 1 says how many times as long zlib's takes.
"""

import sys
import zlib

from agatha_ckpt._format import framing, partition_file
from tests.benchmarks import common
from tests.benchmarks.encoded import Encoded
from tests.benchmarks.workloads import WORKLOADS

try:
    from isal.isal_zlib import crc32 as isals
except ImportError:
    sys.exit("isal is not installed; pip install 'agatha-ckpt[fast]' installs it")


class Case:
    """The records of a partition, in memory."""

    def __init__(self, prepared):
        self.records = list(prepared.records())
        self.encoded = Encoded(self.records)

    def timed(self, crc32):
        partition_file.crc32 = framing.crc32 = crc32
        return {
            "save": common.seconds(Encoded, self.records),
            "load": common.seconds(self.encoded.touch),
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
