"""A report as one page of HTML that needs no other file and no network."""

import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agatha_ckpt import _human
from agatha_ckpt._report import charts, graph, skew
from agatha_ckpt._report.summary import STATES, Report
from agatha_ckpt._store.status import cells

_TEMPLATES = Path(__file__).with_name("templates")
# Characters that HTML cannot hold, or that change the direction of what follows.
_UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)


def render(report: Report) -> str:
    """Return a report as a page; the same for the same report."""
    style, script = (
        _TEMPLATES.joinpath(name).read_text(encoding="utf-8")
        for name in ("report.css", "report.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    lineage = graph.lineage_graph(report)
    page = (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            lineage=lineage,
            drawings=graph.draw(lineage.nodes, lineage.edges),
            style=Markup(style),
            script=Markup(script),
            script_digest=digest,
        )
    )
    return _UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", page)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "STATES": STATES,
        "cells": cells,
        "charts": charts,
        "graph": graph,
        "human": _human,
        "skew": skew,
    }
    environment.filters |= {
        "anchor": anchor,
        "json": partial(json.dumps, ensure_ascii=False),
        "shorten": _shorten,
        "utc": _utc,
    }
    return environment


def anchor(name: str) -> str:
    """Return the id of the card of a checkpoint; different for different names.

    Examples
    --------
    >>> anchor("en sentences")
    'c-en%20sentences'
    """
    return "c-" + quote(name, safe="", errors="surrogatepass")


def _utc(time: str) -> str:
    """Return an ISO time in UTC, to the minute; empty where it is not valid."""
    try:
        then = datetime.fromisoformat(time)
        return f"{then.astimezone(UTC) if then.tzinfo else then:%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):
        return ""


def _shorten(name: str) -> str:
    """Return a name that fits into a box: names differ as often at their ends."""
    return name if len(name) <= 17 else f"{name[:9]}…{name[-7:]}"
