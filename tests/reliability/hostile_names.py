"""Names that someone might give to a checkpoint, and what the design says of each.

"One path segment; letters and digits of any script in NFC, ``_ - .``, space inside; not
beginning with ``.`` or ``-``; not ``__x__``; at most 200 bytes."
"""

import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

# Odd, and legal all the same: they round-trip, beside each other, in one root.
LEGAL = [
    "a",
    "A",
    "a.",
    "a..b",
    "a-",
    "a b",
    "ab",
    "run",
    "run1",
    "run 1",
    "_",
    "_SUCCESS",
    "__a",
    "a__",
    "__done__.bak",
    "done",
    "part-00000",
    "part-00000-0123abcd-0123456789abcdef.msgpack",
    "part-0.pkl",
    "tmp-0123456789abcdef",
    "CON",
    "nul.txt",
    "COM1",
    "None",
    "0",
    "x" * 200,
    "ह" * 66,
    "\u00e9",
    "ß",
    "\u0131",
    "\ufb01",
    "हिन्दी",
    "中文",
    "עברית",
]

ILLEGAL = {
    "empty": "",
    "dot": ".",
    "two dots": "..",
    "three dots": "...",
    "up": "../other",
    "up and up": "../../../../etc/passwd",
    "in and up": "name/../other",
    "in and up and up": "name/../../outside",
    "slash": "/",
    "absolute": "/etc/passwd",
    "two slashes": "//host/share",
    "nested": "name/other",
    "trailing slash": "name/",
    "trailing slash dot": "name/.",
    "backslash": "name\\other",
    "backslashes up": "..\\other",
    "share": "\\\\host\\share",
    "drive": "C:\\other",
    "drive alone": "C:",
    "stream": "name:stream",
    "NUL inside": "a\0b",
    "NUL at the end": "name\0",
    "newline": "a\nb",
    "newline at the end": "name\n",
    "carriage return": "name\r",
    "tab": "a\tb",
    "escape": "\x1b[2Jname",
    "delete": "name\x7f",
    "next line": "a\x85b",
    "line separator": "a\u2028b",
    "star": "*",
    "star at the end": "nam*",
    "question mark": "n?me",
    "brackets": "name[1]",
    "braces": "{name,other}",
    "hash": "name#1",
    "percent": "name%2F..%2Fother",
    "query": "name?versionId=1",
    "chain": "zip::name",
    "url": "s3://bucket/name",
    "file url": "file:///etc/passwd",
    "memory url": "memory://name",
    "home": "~",
    "variable": "$HOME",
    "leading dot": ".name",
    "temporary": ".tmp-0123456789abcdef",
    "run file": ".run-01234567",
    "claim": ".next-0123456789abcdef",
    "option": "-rf",
    "long option": "--help",
    "space": " ",
    "leading space": " name",
    "trailing space": "name ",
    "no-break space": "a\u00a0b",
    "marker": "__done__",
    "reserved": "__name__",
    "two underscores": "__",
    "201 bytes": "x" * 201,
    "201 bytes of 67 letters": "ह" * 67,
    "100,000 bytes": "x" * 100_000,
    "not NFC": "e\u0301",
    "not NFC, Hangul": unicodedata.normalize("NFD", "한국어"),
    "not NFC, Kelvin": "\u212a",
    "mark alone": "\u0301",
    "right to left": "a\u202eb",
    "isolate": "a\u2066b",
    "zero width": "a\u200bb",
    "joiner": "a\u200db",
    "byte order mark": "\ufeffname",
    "fullwidth slash": "name\uff0fother",
    "division slash": "name\u2215other",
    "two dot leader": "\u2025",
    "emoji": "😀",
    "private use": "\ue000",
    "unassigned": "\u0378",
    "lone surrogate": "name\ud800",
    "escaped byte": "name\udcff",
    "None": None,
    "int": 1,
    "bool": True,
    "bytes": b"name",
    "list": ["name"],
    "dict": {"name": 1},
    "tuple": ("name",),
    "path elsewhere": Path("/etc/passwd"),
    "path up": PurePosixPath("../other"),
    "Windows path": PureWindowsPath("C:/other"),
}


def elsewhere(root):
    """Return paths and URLs that begin nearly as those of checkpoints of *root* do."""
    root = str(root)
    parent = root.rsplit("/", 1)[0]
    paths = {
        "the root": root,
        "the root and a slash": f"{root}/",
        "beside the root": f"{parent}/name",
        "root as a prefix": f"{root}-2/name",
        "out of the root": f"{root}/../name",
        "out of the root and back": f"{root}/../root/name",
        "below a checkpoint": f"{root}/name/other",
        "a file of a checkpoint": f"{root}/name/__done__",
        "two slashes after the root": f"{root}//name",
        "a pattern below the root": f"{root}/*",
        "the marker of the root": f"{root}/__done__",
        "hidden below the root": f"{root}/.name",
    }
    objects = {
        f"{what}, as a path object": Path(path)
        for what, path in paths.items()
        # A path object drops what makes these two illegal, or a URL.
        if "://" not in path and "two slashes" not in what
    }
    return paths | objects


def is_legal(name):
    """Say what the sentence above says, in other words than the library's."""
    if not isinstance(name, str) or name in ("", "__"):
        return False
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        size <= 200
        and not name.startswith((".", "-", " "))
        and not name.endswith(" ")
        and not (name.startswith("__") and name.endswith("__"))
        and not unicodedata.category(name[0]).startswith("M")
        and all(_is_of_a_word(c) or c in "_-. " for c in name)
        and unicodedata.normalize("NFC", name) == name
    )


def _is_of_a_word(character):
    # Marks are part of letters in many scripts.
    return character.isalnum() or unicodedata.category(character).startswith("M")
