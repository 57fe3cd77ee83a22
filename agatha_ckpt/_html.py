"""Text of anyone's as HTML that shows it and does nothing else."""

import html
import re
import unicodedata
from collections.abc import Sequence
from urllib.parse import quote

# What HTML cannot hold, and what turns the writing of all that follows around.
_UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]"
)
_NARROW, _WIDE = set("fijlrt.,:;!|'`()[]-/ "), set("mwMW@%—")


def shown(value: object) -> str:
    """Return *value* as text of HTML, or within quotes as an attribute's value.

    Examples
    --------
    >>> shown('<script>"')
    '&lt;script&gt;&quot;'
    >>> shown("a" + chr(0) + "b") == "a" + chr(0xFFFD) + "b"
    True
    """
    return html.escape(_UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", str(value)))


def anchor(name: str) -> str:
    """Return the id of what the page says of a checkpoint; never that of another.

    Examples
    --------
    >>> anchor("en sentences")
    'c-en%20sentences'
    """
    return "c-" + quote(name, safe="", errors="surrogatepass")


def apart(name: str) -> str:
    """Return a name apart from the text around it; it may break after ``_``."""
    return f"<bdi>{shown(name).replace('_', '_<wbr>')}</bdi>"


def link(name: str) -> str:
    """Return the name of a checkpoint, as a link to what the page says of it."""
    return f'<a href="{shown("#" + anchor(name))}">{apart(name)}</a>'


def fitted(text: str, width: float) -> str:
    """Return *text*, shortened in the middle where it is wider than *width* letters.

    The ends of names tell them apart as often as their beginnings.

    Examples
    --------
    >>> fitted("documents_english_2020", 12)
    'docume…2020'
    """
    widths = [_width(character) for character in text]
    if sum(widths) <= width:
        return text
    head = _taken(widths, 0.6 * (width - 1))
    tail = _taken(widths[::-1], 0.4 * (width - 1))
    return f"{text[:head]}…{text[len(text) - tail :]}"


def _taken(widths: Sequence[float], room: float) -> int:
    used = 0.0
    for count, width in enumerate(widths):
        used += width
        if used > room:
            return count
    return len(widths)


def _width(character: str) -> float:
    """Return about how many letters of middle width a character takes."""
    if character in _NARROW:
        return 0.6
    if character in _WIDE:
        return 1.5
    if unicodedata.combining(character):
        return 0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.9
    return 1.2 if character.isupper() else 1.0
