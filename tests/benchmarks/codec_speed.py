"""How fast is the codec against pickle, in memory?

    python -m tests.benchmarks.codec_speed [--quick] [--scale 0.25] [--only vectors]

Encoding is a whole partition file into memory, against ``pickle.dumps`` of the list at
protocol 5; decoding iterates over every record, against ``pickle.loads``. Above 1 says
how many times as long pickle takes.
"""

import pickle

from tests.benchmarks import common
from tests.benchmarks.encoded import Encoded
from tests.benchmarks.workloads import WORKLOADS


class Case:
    """The records of a partition, in memory."""

    def __init__(self, prepared):
        self.records = list(prepared.records())
        self.encoded = Encoded(self.records)
        self.pickled = pickle.dumps(self.records, protocol=5)

    def codec(self):
        return {
            "save": common.seconds(Encoded, self.records),
            "load": common.seconds(self.encoded.touch),
        }

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
    table = []
    with common.folder(arguments) as root:
        for name, workload in WORKLOADS.items():
            if not common.is_wanted(arguments, name):
                continue
            report.say(name)
            case = Case(workload.prepared(root, scale))
            contestants = {"codec": case.codec, "pickle": case.pickle}
            samples = common.in_turn(contestants, rounds, report, warm=True)
            found = {
                what: common.ratio(samples["pickle", what], samples["codec", what])
                for what in ("save", "load")
            }
            for what, ratio in found.items():
                report.row(records=name, what=what, ratio=ratio)
            table.append([name, *found.values()])
    report.table("Time of pickle over the codec's", ["records", "save", "load"], table)
    report.finish()


if __name__ == "__main__":
    main()
