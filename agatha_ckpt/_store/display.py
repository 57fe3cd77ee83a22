"""The checkpoints of a root as a table for a notebook."""

from collections.abc import Callable, Iterable
from html import escape
from itertools import islice

from agatha_ckpt._errors import redact
from agatha_ckpt._store.status import Status, cells

_MAX_ROWS = 50
_HEADER = (
    "name", "state", "format", "partitions", "records", "bytes", "age", "version",
)  # fmt: skip
_NUMERIC = {"partitions", "records", "bytes", "age"}


def notebook_table(title: str, statuses: Callable[[], Iterable[Status]]) -> str:
    """Return the HTML table of the first checkpoints of a root.

    Where *statuses* raises, the first line of the error is shown in place of the table,
    as a notebook shows no object whose display raises.
    """
    title = f"<code>{escape(title)}</code>"
    try:
        found = list(islice(statuses(), _MAX_ROWS + 1))
        rows = "".join(map(_row, found[:_MAX_ROWS]))
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        problem = escape(redact(f"{type(error).__name__}: {first}"))
        return f"<p>{title}</p><p>{problem}</p>"
    if not found:
        return f"<p>{title}: no checkpoints</p>"
    more = ""
    if len(found) > _MAX_ROWS:
        more = f"<p>These are the first {_MAX_ROWS}; there are more.</p>"
    header = "".join(f'<th scope="col"{_align(name)}>{name}</th>' for name in _HEADER)
    return (
        f"<p>{title}</p><table><thead><tr>{header}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{more}"
    )


def _row(status: Status) -> str:
    row = {column: escape(text) for column, text in cells(status).items()}
    others = "".join(f"<td{_align(n)}>{row[n]}</td>" for n in _HEADER[1:])
    return f'<tr><th scope="row"{_align("name")}>{row["name"]}</th>{others}</tr>'


def _align(column: str) -> str:
    side = "right" if column in _NUMERIC else "left"
    return f' style="text-align: {side}"'
