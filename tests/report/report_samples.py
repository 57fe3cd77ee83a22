"""Made-up checkpoints of all kinds, as a report sees them: no file is needed."""

import random
from datetime import UTC, datetime, timedelta

from agatha_ckpt import Plan
from agatha_ckpt._format.manifest import Manifest, PartitionInfo
from agatha_ckpt._report.lineage import lineage
from agatha_ckpt._report.summary import Entry, Report
from agatha_ckpt._store.folder import DamagedPartition
from agatha_ckpt._store.status import Status

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
MIB = 1024 * 1024


class Root:
    """A root that is made up, checkpoint by checkpoint."""

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
        text=False,
    ):
        """A done checkpoint, of which one partition is *skew* times as large."""
        vary = [self.random.lognormvariate(0, 0.15) for _ in range(partitions)]
        vary[self.random.randrange(partitions)] *= skew
        infos = tuple(
            PartitionInfo(
                f"part-{i:05d}",
                records=round(v * mib * 1500),
                bytes=round(v * mib * MIB),
                digest=f"{self.random.getrandbits(128):032x}",
                seconds=v * seconds * self.random.lognormvariate(0, 0.2),
            )
            for i, v in enumerate(vary)
        )
        ids = tuple(sorted((p, self._id(p)) for p in parents))
        plan = Plan(partitions, "text" if text else "msgpack", version, ids)
        created = (NOW - timedelta(hours=hours)).isoformat()
        manifest = Manifest(plan, infos, created, "1.0", "token")
        self.statuses[name] = Status(
            name,
            "done",
            partitions,
            partitions,
            sum(i.records for i in infos),
            sum(i.bytes for i in infos),
            plan.format,
            version,
            created,
            changed=created,
            manifest=manifest,
        )

    def _id(self, name):
        status = self.statuses.get(name)
        known = status and status.manifest
        return known.id if known else f"{0:032x}"

    def partial(self, name, kept, expected, mib=40.0, hours=0.3):
        changed = (NOW - timedelta(hours=hours)).isoformat()
        self.statuses[name] = Status(
            name,
            "partial",
            kept,
            expected,
            bytes=round(kept * mib * MIB),
            format="msgpack",
            changed=changed,
        )

    def damaged(self, name, kept=64):
        problem = (
            f"the done marker of checkpoint {name!r} under 's3://b/run' is cut, "
            "changed or empty (its seal does not match); give the bag to save it "
            "again, or clear it"
        )
        self.statuses[name] = Status(
            name, "partial", kept, 64, bytes=kept * MIB, problem=problem
        )

    def newer(self, name):
        problem = (
            f"checkpoint {name!r} under 's3://b/run' was written in format 99, and "
            "this version of agatha_ckpt reads format 1; upgrade agatha_ckpt"
        )
        self.statuses[name] = Status(name, "done", problem=problem)

    def lose(self, name, *indexes):
        self.missing[name] = tuple(
            DamagedPartition(index, "its file is missing") for index in indexes
        )

    def report(self, root="s3://corpus/run-7"):
        manifests = {n: s.manifest for n, s in self.statuses.items()}
        kin = lineage(manifests)
        entries = tuple(
            Entry(
                self.statuses[n],
                kin[n],
                self.missing.get(n, ()),
                f"checkpoint {n!r} under 's3://b/run'",
            )
            for n in sorted(self.statuses)
        )
        return Report(root, entries, NOW, "1.0")


def small():
    """Three checkpoints, the last of them skewed."""
    root = Root()
    root.done("documents", mib=30, seconds=12)
    root.done("sentences", ["documents"], mib=55, seconds=40, version="2")
    root.done("terms", ["sentences"], mib=9, seconds=75, skew=11, hours=1.2)
    return root.report("/data/run-1")


def pipeline():
    """A dozen, of all states."""
    root = Root(3)
    root.done("medline", partitions=240, mib=110, seconds=42, hours=90)
    root.done("abstracts_en", ["medline"], partitions=240, mib=61, hours=80)
    root.done("sentences", ["abstracts_en"], partitions=240, mib=70, hours=71)
    root.done("predications", partitions=32, mib=15, seconds=8, hours=100)
    root.done("sentences_with_entities", ["sentences"], 240, 96, 310, 6, 60, "scispacy")
    root.done("lemmas", ["sentences"], partitions=240, mib=33, seconds=55, hours=50)
    root.done("ngrams", ["lemmas"], partitions=240, mib=21, seconds=90, hours=47)
    root.done("ngrams_frequent", ["ngrams", "word_counts"], 48, 4, 20, hours=30)
    root.done(
        "graph_edges",
        ["sentences_with_entities", "predications", "lemmas"],
        partitions=128,
        mib=18,
        hours=26,
    )
    root.done("edges_tsv", ["graph_edges"], 128, 22, 5, hours=25, text=True)
    root.partial("embeddings", 37, 64)
    root.damaged("topic_model")
    root.done("predications", partitions=32, mib=16, seconds=9, hours=2)
    root.lose("lemmas", 17, 118)
    return root.report()


def large(count=300):
    """Pipelines for many languages and months, with all that goes wrong."""
    root, chance = Root(7), random.Random(11)
    root.done("vocabulary", partitions=16, mib=80, hours=900)
    languages = (
        "en",
        "de",
        "fr",
        "es",
        "it",
        "pt",
        "nl",
        "sv",
        "da",
        "fi",
        "pl",
        "cs",
        "hu",
        "ro",
        "el",
        "tr",
        "ru",
        "uk",
        "ja",
        "zh",
    )
    steps = ["documents", "sentences", "lemmas", "entities", "graph"]
    for language in languages:
        before = None
        for step in steps:
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
    root.done("all_graphs", [f"{lang}_graph" for lang in languages], 256, 90, 60, 5, 80)
    for language in ("de", "fi", "ja"):  # made again since
        root.done(f"{language}_sentences", [f"{language}_documents"], 64, 9, hours=3)
    for month in range(1, 13):
        for part in ("raw", "clean", "counts"):
            kept = chance.randrange(1, 64)
            name = f"log_2025-{month:02d}_{part}"
            if chance.random() < 0.2:
                root.partial(name, kept, 64, hours=chance.uniform(0, 400))
            elif part == "raw" or f"log_2025-{month:02d}_raw" not in root.statuses:
                root.done(name, [], 31, 2, hours=700)
            else:
                root.done(name, [f"log_2025-{month:02d}_raw"], 31, 1, hours=650)
    for k in range(count - len(root.statuses)):
        name = f"experiment {k:03d}"
        if k % 17 == 3:
            root.damaged(name)
        elif k % 9 == 5:
            root.partial(name, 1 + k % 30, 32, hours=3 * k)
        else:
            root.done(name, [], chance.choice([1, 4, 32]), 3, 4, hours=24 * k + 2)
    root.lose("sv_lemmas", 3)
    root.newer("experiment 000")
    return root.report("s3://corpus-archive/europe")
