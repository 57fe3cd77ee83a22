"""``agatha-ckpt show``: everything that is known of one checkpoint."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from agatha_ckpt._cli.common import check_names, complete_name, takes_root
from agatha_ckpt._cli.ls import record
from agatha_ckpt._cli.table import coloured, printable, table
from agatha_ckpt._errors import redact
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._human import age, count, seconds_since, size, times, took
from agatha_ckpt._report.lineage import Kin, Parent
from agatha_ckpt._report.skew import (
    SKEW_LEAST_BYTES,
    SKEW_LEAST_SECONDS,
    Spread,
    spread_of,
)
from agatha_ckpt._report.summary import lineage_of
from agatha_ckpt._store.contents import Contents, contents_of
from agatha_ckpt._store.display import cells
from agatha_ckpt._store.status import State, Status
from agatha_ckpt._store.store import CheckpointStore

_BINS, _BAR = 8, 40
_ALIKE = 1.25  # up to here partitions are alike, and a picture would exaggerate


@click.command()
@takes_root()
@click.argument("name", shell_complete=complete_name)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead.")
def show(store: CheckpointStore, name: str, as_json: bool) -> None:
    """Show everything that is known of the checkpoint NAME under ROOT.

    What was built from it, and whether it is stale, is found in the done markers of
    all checkpoints under ROOT. Of a damaged checkpoint the exit code is 1.

    Example: agatha-ckpt show /data/run-1 sentences
    """
    [name] = check_names(store, [name])
    statuses = {status.name: status for status in store.statuses()}
    status = statuses.get(name)
    if status is None or status.state == State.UNREADABLE:
        status = store.status(name)  # which raises why
    kin = lineage_of(statuses.values()).get(name, Kin())
    contents = contents_of(store._folder(name))
    where = redact(str(store.path(name)))
    if as_json:
        click.echo(json.dumps(_document(status, kin, where), indent=2))
    else:
        facts = list(_facts(status, kin, contents, where))
        column = max(len(label) for label, _ in facts)
        for label, text in facts:
            click.echo(f"{label.ljust(column)}  {text}".rstrip())
        if status.manifest:
            click.echo("\n".join(_spread(status.manifest)))
    if status.problem:
        raise click.ClickException(status.problem)


def _document(status: Status, kin: Kin, where: str) -> dict[str, Any]:
    manifest = status.manifest
    document = record(status) | {
        "where": where,
        "parents": [asdict(parent) for parent in kin.parents],
        "children": list(kin.children),
        "stale": list(kin.stale),
    }
    if manifest:
        document["library"] = manifest.library
        document["stored"] = [asdict(partition) for partition in manifest.partitions]
    return document


def _facts(
    status: Status, kin: Kin, contents: Contents, where: str
) -> list[tuple[str, str]]:
    manifest = status.manifest
    facts = [("name", status.name), ("state", coloured(cells(status)["state"]))]
    facts += [("stale", printable(reason)) for reason in kin.stale]
    facts.append(("where", where))
    if status.state != "absent":
        facts += [
            ("format", status.format or "?"),
            ("partitions", count(status.partitions)),
        ]
    if manifest:
        facts += [
            ("records", count(status.records)),
            ("size", size(status.bytes)),
            (
                "version",
                "none" if status.version is None else printable(str(status.version)),
            ),
            ("parents", ", ".join(map(_parent, kin.parents)) or "none"),
            ("children", ", ".join(kin.children) or "none"),
            ("pickle", "holds pickled values" if manifest.holds_pickle else "none"),
            ("made", f"{_time(status.created)}, by {_maker(manifest)}"),
            ("id", manifest.id),
        ]
        left_over = contents.leftovers(manifest)
        if left_over.own:
            text = f"{count(len(left_over.own), 'file')}, {size(left_over.bytes)}"
            facts.append(("left over", f"{text}; `agatha-ckpt prune --leftovers`"))
    else:
        facts += [
            ("size", size(status.bytes)),
            ("written", _time(status.changed)),
        ]
    if contents.foreign:
        facts.append(("foreign", count(contents.foreign, "file") + " of others"))
    return facts


def _maker(manifest: Manifest) -> str:
    agatha = manifest.library == "agatha"
    return printable("Agatha itself" if agatha else f"agatha_ckpt {manifest.library}")


def _time(time: str | None) -> str:
    if not time or seconds_since(time) is None:
        return "?"
    then = datetime.fromisoformat(time).astimezone(UTC)
    return f"{then:%Y-%m-%d %H:%M:%S} UTC, {age(time)} ago"


def _parent(parent: Parent) -> str:
    if parent.now is None:
        return f"{printable(redact(parent.name))} ({parent.problem})"
    return parent.now if parent.now == parent.name else f"{parent.now} (renamed)"


def _spread(manifest: Manifest) -> list[str]:
    """Return how partitions differ in records, bytes and seconds."""
    stored = manifest.partitions
    measures: list[tuple[str, Spread | None, Callable[[float], str]]] = [
        ("records", spread_of((p.records for p in stored), 0), _whole),
        ("size", spread_of((p.bytes for p in stored), SKEW_LEAST_BYTES), size),
        ("time", spread_of((p.seconds for p in stored), SKEW_LEAST_SECONDS), took),
    ]
    rows, pictures = [], []
    for label, spread, shown in measures:
        if spread is None:  # Agatha itself counted nothing
            continue
        figures = (spread.smallest, spread.median, spread.largest, sum(spread.values))
        rows.append([label, *map(shown, figures), _largest(spread)])
        if label != "records" and spread.smallest * _ALIKE < spread.largest:
            pictures += ["", *histogram(label, spread.values, shown)]
    if not rows:
        return []
    header = ["A PARTITION'S", "SMALLEST", "MEDIAN", "LARGEST", "ALL", "LARGEST IS"]
    return ["", *table(header, rows, "<>>>><"), *pictures]


def _whole(number: float) -> str:
    return count(round(number))


def _largest(spread: Spread) -> str:
    if spread.smallest == spread.largest:
        return ""
    where = f"partition {spread.where}"
    if not spread.is_skewed or spread.factor is None:
        return where
    return click.style(f"{where}, {times(spread.factor)} the median", fg="red")


def histogram(
    label: str, values: Sequence[float], shown: Callable[[float], str]
) -> list[str]:
    r"""Return lines that show how many of the values lie where.

    Examples
    --------
    >>> print(*histogram("size", [0, 1, 1, 8], str), sep="\n")  # doctest: +ELLIPSIS
    SIZE       PARTITIONS
    0.0 - 1.0           1  ####################
    1.0 - 2.0           2  ########################################
    2.0 - 3.0           0
    ...
    """
    low, high = min(values), max(values)
    step = (high - low) / _BINS
    bins = [0] * _BINS
    for value in values:
        bins[min(int((value - low) / step), _BINS - 1)] += 1
    rows = [
        [
            f"{shown(low + i * step)} - {shown(low + (i + 1) * step)}",
            count(number),
            "#" * -(-number * _BAR // max(bins)),
        ]
        for i, number in enumerate(bins)
    ]
    return table([label.upper(), "PARTITIONS", ""], rows, "<><")
