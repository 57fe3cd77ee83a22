"""The checkpoints of a root as a table for a notebook."""

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice

from agatha_ckpt._errors import redact
from agatha_ckpt._html import shown
from agatha_ckpt._human import age, count, size
from agatha_ckpt._store.status import UNREADABLE, Status

_MOST_ROWS = 50
_HEADER = (
    "name", "state", "format", "partitions", "records", "bytes", "age", "version",
)  # fmt: skip
_FIGURES = {"partitions", "records", "bytes", "age"}


def cells(status: Status, now: datetime | None = None) -> dict[str, str]:
    """Return what a table says of a checkpoint, by column; not yet HTML."""
    state = status.condition
    if state == "partial":
        state += f" {count(status.partitions)}/{count(status.expected)}"
    is_partial, is_known = status.state == "partial", status.state != UNREADABLE
    return {
        "name": status.name,
        "state": state,
        "format": status.format or "?",
        "partitions": count(status.partitions if is_known else None),
        "records": "" if is_partial else count(status.records),
        "bytes": size(status.bytes) if is_known else "?",
        "age": age(status.changed, now),
        "version": "" if status.version is None else str(status.version),
    }


def notebook_table(title: str, statuses: Callable[[], Iterable[Status]]) -> str:
    """Return what a notebook shows of a root, of its first checkpoints at least.

    Parameters
    ----------
    title : str
        What the object is without its checkpoints.
    statuses : callable
        Looks for them. Where that fails, the first line of the error is shown: an
        object that cannot be shown would be worse than one that shows less.
    """
    title = f"<code>{shown(title)}</code>"
    try:
        found = list(islice(statuses(), _MOST_ROWS + 1))
        rows = "".join(_row(status) for status in found[:_MOST_ROWS])
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        return (
            f"<p>{title}</p><p>{shown(redact(f'{type(error).__name__}: {first}'))}</p>"
        )
    if not found:
        return f"<p>{title}: no checkpoints</p>"
    more = ""
    if len(found) > _MOST_ROWS:
        more = f"<p>These are the first {_MOST_ROWS}; there are more.</p>"
    header = "".join(f'<th scope="col"{_side(name)}>{name}</th>' for name in _HEADER)
    return (
        f"<p>{title}</p><table><thead><tr>{header}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{more}"
    )


def _row(status: Status) -> str:
    row = cells(status)
    others = "".join(f"<td{_side(n)}>{shown(row[n])}</td>" for n in _HEADER[1:])
    name = f'<th scope="row"{_side("name")}>{shown(row["name"])}</th>'
    return f"<tr>{name}{others}</tr>"


def _side(column: str) -> str:
    side = "right" if column in _FIGURES else "left"
    return f' style="text-align: {side}"'
