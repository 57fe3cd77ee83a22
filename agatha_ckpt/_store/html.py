"""Values as tables of HTML, for notebooks."""

from collections.abc import Mapping
from html import escape


def fields_table(title: str, fields: Mapping[str, object]) -> str:
    """Return a table with a row for each field that is not empty; all is escaped."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left">{escape(name)}</th>'
        f'<td style="text-align: left">{escape(str(value))}</td></tr>'
        for name, value in fields.items()
        if value not in ("", None)
    )
    return f"<p><code>{escape(title)}</code></p><table><tbody>{rows}</tbody></table>"
