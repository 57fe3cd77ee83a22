"""Made-up reports of all kinds, for tests and pictures; no file is read."""

import random
from datetime import UTC, datetime, timedelta

from agatha_ckpt import DamagedPartition, Manifest, PartitionInfo, Plan, Status
from agatha_ckpt._report.lineage import find_lineages
from agatha_ckpt._report.summary import Entry, Report
from agatha_ckpt._store.status import State

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
MIB = 1024 * 1024
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</style><script>",
    "</title>&amp;",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "a\x00b\x1b[2Jc",
    "turned \u202e around",
    "half \ud800 letter",
    "a b",
    "a%20b",
    "white\u00a0space and\ttab\nline",
    "文章" * 30,
    "W" * 200,
]
LANGUAGES = "en de fr es it pt nl sv da fi pl cs hu ro el tr ru uk ja zh"


class Root:
    """A made-up root."""

    def __init__(self, seed=0):
        self.random = random.Random(seed)
        self.statuses = {}
        self.missing = {}

    def done(
        self,
        name,
        parents=(),
        partitions=64,
        mib=40.0,
        seconds=30.0,
        skew=1.0,
        hours=5.0,
        version=None,
        format="msgpack",
    ):
        """Add a done checkpoint; one partition is *skew* times as large as most."""
        factors = [self.random.lognormvariate(0, 0.15) for _ in range(partitions)]
        factors[self.random.randrange(partitions)] *= skew
        infos = tuple(
            PartitionInfo(
                f"part-{i:05d}",
                records=round(factor * mib * 1500),
                bytes=round(factor * mib * MIB),
                digest=f"{self.random.getrandbits(128):032x}",
                seconds=factor * seconds * self.random.lognormvariate(0, 0.2),
            )
            for i, factor in enumerate(factors)
        )
        plan = Plan(
            partitions, format, version, tuple((p, self._id(p)) for p in parents)
        )
        self.statuses[name] = Status(
            name,
            State.DONE,
            partitions,
            partitions,
            sum(info.records for info in infos),
            sum(info.bytes for info in infos),
            format,
            version,
            changed=ago(hours),
            manifest=Manifest(plan, infos),
        )

    def _id(self, name):
        status = self.statuses.get(name)
        return status.manifest.id if status and status.manifest else f"{0:032x}"

    def partial(self, name, stored, expected, mib=40.0, hours=0.3):
        self.statuses[name] = Status(
            name,
            State.PARTIAL,
            stored,
            expected,
            bytes=round(stored * mib * MIB),
            format="msgpack",
            changed=ago(hours),
        )

    def damaged(self, name):
        problem = (
            f"the done marker of checkpoint {name!r} under 's3://b/run' is empty, cut "
            "or changed (its seal does not match); give the collection to save it again"
        )
        self.statuses[name] = Status(name, State.DAMAGED, 64, problem=problem)

    def unsupported(self, name):
        problem = f"checkpoint {name!r} under 's3://b/run' was written in format 99"
        self.statuses[name] = Status(name, State.UNSUPPORTED, problem=problem)

    def lose(self, name, *indexes):
        self.missing[name] = tuple(
            DamagedPartition(index, "its file is missing") for index in indexes
        )

    def report(self, root="s3://corpus/run-7"):
        lineages = find_lineages(self.statuses.values())
        entries = tuple(
            Entry(
                self.statuses[name],
                lineages[name],
                self.missing.get(name, ()),
                f"checkpoint {name!r} under 's3://b/run'",
            )
            for name in sorted(self.statuses)
        )
        return Report(root, entries, NOW, "1.0")


def ago(hours):
    return (NOW - timedelta(hours=hours)).isoformat()


def empty():
    return Root().report()


def small():
    """Return three checkpoints, the last of them skewed."""
    root = Root()
    root.done("documents", mib=30, seconds=12)
    root.done("sentences", ["documents"], mib=55, seconds=40, version="2")
    root.done("terms", ["sentences"], mib=9, seconds=75, skew=11, hours=1.2)
    return root.report("/data/run-1")


def pipeline():
    """Return a dozen checkpoints of all states."""
    root = Root(3)
    root.done("medline", partitions=240, mib=110, seconds=42, hours=90)
    root.done("abstracts_en", ["medline"], partitions=240, mib=61, hours=80)
    root.done("sentences", ["abstracts_en"], partitions=240, mib=70, hours=71)
    root.done("predications", partitions=32, mib=15, seconds=8, hours=100)
    root.done("sentences_with_entities", ["sentences"], 240, 96, 310, 6, 60, "scispacy")
    root.done("lemmas", ["sentences"], partitions=240, mib=33, seconds=55, hours=50)
    root.done("ngrams", ["lemmas"], partitions=240, mib=21, seconds=90, hours=47)
    root.done("ngrams_frequent", ["ngrams", "word_counts"], 48, 4, 20, hours=30)
    joined = ["sentences_with_entities", "predications", "lemmas"]
    root.done("graph_edges", joined, partitions=128, mib=18, hours=26)
    root.done("edges_tsv", ["graph_edges"], 128, 22, 5, hours=25, format="text")
    root.partial("embeddings", 37, 64)
    root.damaged("topic_model")
    root.done("predications", partitions=32, mib=16, seconds=9, hours=2)
    root.lose("lemmas", 17, 118)
    return root.report()


def large(count=300):
    """Return pipelines for many languages and months, with all that goes wrong."""
    root, chance = Root(7), random.Random(11)
    root.done("vocabulary", partitions=16, mib=80, hours=900)
    for language in LANGUAGES.split():
        before = None
        for step in ["documents", "sentences", "lemmas", "entities", "graph"]:
            name = f"{language}_{step}"
            parents = [before] if before else []
            if step == "lemmas":
                parents.append("vocabulary")
            skew = 1.0 if chance.random() < 0.93 else chance.uniform(4, 30)
            mib = chance.choice([0.2, 3, 12, 60])
            root.done(name, parents, chance.choice([8, 64, 200]), mib, 20, skew, 200)
            if chance.random() < 0.25:
                root.done(f"{name}_sample", [name], 4, 0.5, 2, hours=90, version="v2")
            before = name
    root.done(
        "all_graphs",
        [f"{lang}_graph" for lang in LANGUAGES.split()],
        256,
        90,
        60,
        5,
        80,
    )
    for language in ("de", "fi", "ja"):  # recomputed since
        root.done(f"{language}_sentences", [f"{language}_documents"], 64, 9, hours=3)
    for month in range(1, 13):
        raw = f"log_2025-{month:02d}_raw"
        root.done(raw, [], 31, 2, hours=700)
        for part in ("clean", "counts"):
            root.done(f"log_2025-{month:02d}_{part}", [raw], 31, 1, hours=650)
        if month % 5 == 0:
            root.partial(raw, month, 31, hours=2)
    for k in range(count - len(root.statuses)):
        name = f"experiment {k:03d}"
        if k % 17 == 3:
            root.damaged(name)
        elif k % 9 == 5:
            root.partial(name, 1 + k % 30, 32, hours=3 * k)
        else:
            root.done(name, [], chance.choice([1, 4, 32]), 3, 4, hours=24 * k + 2)
    root.lose("sv_lemmas", 3)
    root.unsupported("experiment 000")
    return root.report("s3://corpus-archive/europe")


def hostile():
    """Return checkpoints with names, versions and parents that attack a page."""
    root = Root()
    for k, text in enumerate(HOSTILE):
        root.done(text, version=text, partitions=4)
        root.done(f"child {k}", [text, f"{text} that is gone"], partitions=2)
        root.partial(f"{text} partial", 1, 3)
    root.damaged(HOSTILE[0] + "!")
    return root.report(HOSTILE[0])


def broken():
    """Return checkpoints that all need attention."""
    root = Root(5)
    root.done("a_late", partitions=8)
    root.done("b_middle", ["a_late", "z_partial"], partitions=8)
    for k in range(7):
        root.done(f"c_child_{k}", ["b_middle"], partitions=8, skew=9)
    root.partial("z_partial", 3, 8)
    root.damaged("a_late")
    root.lose("c_child_3", *range(8))
    return root.report()
