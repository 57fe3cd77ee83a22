"""``agatha-ckpt show``: everything that is known of one checkpoint."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import click

from agatha_ckpt._cli.common import check_names, complete_name, takes_root
from agatha_ckpt._cli.ls import json_object
from agatha_ckpt._cli.table import printable, state_cell, table, terminal_columns
from agatha_ckpt._errors import redact
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._human import (
    format_age,
    format_bytes,
    format_count,
    format_duration,
    format_ratio,
    seconds_since,
)
from agatha_ckpt._report.lineage import Lineage, Parent, find_lineages
from agatha_ckpt._report.skew import (
    SKEW_MIN_BYTES,
    SKEW_MIN_SECONDS,
    Spread,
    spread_of,
)
from agatha_ckpt._store.contents import Contents, contents_of
from agatha_ckpt._store.status import State, Status
from agatha_ckpt._store.store import CheckpointStore

_BINS, _BAR_COLUMNS = 8, 40
_MIN_RATIO = 1.25  # of largest to smallest
_MAX_VALUE = 200  # characters of a value of the metadata


@click.command(short_help="Show everything that is known of one checkpoint.")
@takes_root()
@click.argument("name", shell_complete=complete_name)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead.")
def show(store: CheckpointStore, name: str, as_json: bool) -> None:
    """Show everything that is known of the checkpoint NAME under ROOT.

    Its children, and whether it is stale, are found in the done markers of all
    checkpoints under ROOT. If its own is damaged, the exit code is 1.

    Example: agatha-ckpt show /data/run-1 sentences
    """
    [name] = check_names(store, [name])
    statuses = {status.name: status for status in store.statuses()}
    status = statuses.get(name)
    if status is None or status.state is State.UNREADABLE:
        status = store.status(name)  # raises the OSError
    lineage = find_lineages(statuses.values()).get(name, Lineage())
    contents = contents_of(store._folder(name))
    where = redact(str(store.path(name)))
    if as_json:
        click.echo(json.dumps(_json_object(status, lineage, where), indent=2))
    else:
        first, *facts = _facts(status, lineage, contents, where)
        click.echo("\n".join(table(first, facts)))
        if status.manifest:
            click.echo("\n".join(_spread_table(status.manifest)))
    if status.problem:
        raise click.ClickException(status.problem)


def _json_object(status: Status, lineage: Lineage, where: str) -> dict[str, Any]:
    document = json_object(status) | {
        "where": where,
        "parents": [asdict(parent) for parent in lineage.parents],
        "children": list(lineage.children),
        "stale": list(lineage.stale),
    }
    if status.manifest:
        document["library"] = status.manifest.library
        document["metadata"] = dict(status.manifest.metadata)
        document["stored"] = [asdict(info) for info in status.manifest.partitions]
    return document


def _facts(
    status: Status, lineage: Lineage, contents: Contents, where: str
) -> list[tuple[str, str]]:
    manifest = status.manifest
    facts = [("name", status.name), ("state", state_cell(status))]
    facts += [("stale", printable(reason)) for reason in lineage.stale]
    facts.append(("where", printable(where)))
    if status.state is not State.ABSENT:
        facts += [
            ("format", status.format or "?"),
            ("partitions", format_count(status.partitions)),
        ]
    if manifest:
        version = "none" if status.version is None else printable(str(status.version))
        pickle = "holds pickled values" if manifest.holds_pickle else "none"
        library = "Agatha" if manifest.is_agatha else f"agatha_ckpt {manifest.library}"
        if manifest.collection["kind"] != "bag":
            facts.append(("kind", _kind(manifest)))
        facts += [
            ("records", format_count(status.records)),
            ("size", format_bytes(status.bytes)),
            ("version", version),
            ("parents", ", ".join(map(_parent, lineage.parents)) or "none"),
            ("children", ", ".join(lineage.children) or "none"),
            ("pickle", pickle),
            ("saved", f"{_time(status.created)}, by {printable(library)}"),
            ("id", manifest.id),
        ]
        facts += [("metadata", _item(*item)) for item in manifest.metadata.items()]
        leftovers = contents.leftovers(manifest)
        if leftovers.own:
            files = format_count(len(leftovers.own), "file")
            text = f"{files}, {format_bytes(leftovers.bytes)}"
            facts.append(("leftovers", f"{text}; `agatha-ckpt prune --leftovers`"))
    else:
        facts += [
            ("size", format_bytes(status.bytes)),
            ("written", _time(status.changed)),
        ]
    if contents.foreign:
        facts.append(("foreign", format_count(contents.foreign, "file")))
    return facts


def _item(key: str, value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > _MAX_VALUE:
        text = f"{text[:_MAX_VALUE]}... (all of it: --json)"
    return printable(f"{key} = {text}")


def _kind(manifest: Manifest) -> str:
    """Return what was saved; of an array also its shape, chunks and dtype."""
    described = manifest.collection
    kind = printable(described["kind"])
    if "shape" not in described:
        return kind
    shape = " x ".join(f"{size:,}" for size in described["shape"]) or "no dimensions"
    chunks = " x ".join(f"{max(sizes, default=0):,}" for sizes in described["chunks"])
    blocks = f" in blocks of {chunks}" if chunks else ""
    return f"{kind}, {shape}{blocks}, dtype {printable(described['dtype'])}"


def _time(time: str | None) -> str:
    if not time or seconds_since(time) is None:
        return "?"
    try:
        then = datetime.fromisoformat(time).astimezone(UTC)
    except OverflowError:  # before year 1 in UTC, or beyond 9999
        return "?"
    return f"{then:%Y-%m-%d %H:%M:%S} UTC, {format_age(time)} ago"


def _parent(parent: Parent) -> str:
    if parent.now is None:
        return f"{printable(redact(parent.name))} ({parent.problem})"
    return parent.now if parent.now == parent.name else f"{parent.now} (renamed)"


def _spread_table(manifest: Manifest) -> list[str]:
    """Return how the partitions differ in records, bytes and seconds."""
    infos = manifest.partitions
    seconds = spread_of((info.seconds for info in infos), SKEW_MIN_SECONDS)
    measures: list[tuple[str, Spread | None, Callable[[float], str]]] = [
        ("records", spread_of((info.records for info in infos), 0), _integer),
        ("size", spread_of((i.bytes for i in infos), SKEW_MIN_BYTES), format_bytes),
        ("time", seconds, format_duration),
    ]
    rows, histograms = [], []
    for label, spread, shown in measures:
        if spread is None:  # Agatha counted nothing
            continue
        figures = (spread.smallest, spread.median, spread.largest, sum(spread.values))
        rows.append([label, *map(shown, figures), _largest(spread)])
        if label != "records" and _is_unequal(spread, shown):
            histograms += ["", *histogram(label, spread.values, shown)]
    if not rows:
        return []
    header = ["A PARTITION'S", "SMALLEST", "MEDIAN", "LARGEST", "ALL", "LARGEST IS"]
    return [
        "",
        *table(header, rows, "<>>>><", ("ALL", "SMALLEST", "MEDIAN")),
        *histograms,
    ]


def _is_unequal(spread: Spread, shown: Callable[[float], str]) -> bool:
    """Return whether a histogram is worth its lines, and has distinct labels."""
    ratio = spread.largest > _MIN_RATIO * spread.smallest
    return ratio and shown(spread.smallest) != shown(spread.largest)


def _integer(number: float) -> str:
    return format_count(round(number))


def _largest(spread: Spread) -> str:
    if spread.smallest == spread.largest:
        return ""
    partition = f"partition {spread.largest_index}"
    if not spread.is_skewed or spread.factor is None:
        return partition
    ratio = format_ratio(spread.factor)
    return click.style(f"{partition}, {ratio} the median", fg="red")


def histogram(
    label: str, values: Sequence[float], shown: Callable[[float], str]
) -> list[str]:
    r"""Return the lines of a histogram.

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
    edges = [shown(low + i * step) for i in range(_BINS + 1)]
    labels = [f"{start} - {end}" for start, end in pairwise(edges)]
    room = (terminal_columns() or 100) - max(map(len, labels)) - len("  PARTITIONS  ")
    bar = max(min(_BAR_COLUMNS, room), 1)
    rows = [
        [name, format_count(number), "#" * -(-number * bar // max(bins))]
        for name, number in zip(labels, bins, strict=True)
    ]
    return table([label.upper(), "PARTITIONS", ""], rows, "<><")
