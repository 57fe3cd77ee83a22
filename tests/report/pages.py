"""Pages of HTML as tests see them: parsed, or in Chromium."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "input", "wbr"}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)


@dataclass
class Element:
    tag: str
    attributes: dict = field(default_factory=dict)
    children: list = field(default_factory=list)

    def all(self, tag=None, kind=None):
        """The elements below this one with a tag, or a class."""
        for child in self.children:
            if isinstance(child, Element):
                classes = (child.attributes.get("class") or "").split()
                if tag in (None, child.tag) and (kind is None or kind in classes):
                    yield child
                yield from child.all(tag, kind)

    def one(self, tag=None, kind=None):
        (found,) = self.all(tag, kind)
        return found

    @property
    def text(self):
        return "".join(c.text if isinstance(c, Element) else c for c in self.children)


class Parser(HTMLParser):
    """A parser that asserts that every element is closed where it should be."""

    def __init__(self):
        super().__init__()
        self.stack = [Element("document")]

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), attrs
        element = Element(tag, dict(attrs))
        self.stack[-1].children.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.stack[-1].tag == tag, f"{tag} closes {self.stack[-1].tag}"
        self.stack.pop()

    def handle_data(self, data):
        self.stack[-1].children.append(data)


def parsed(page):
    parser = Parser()
    parser.feed(page)
    parser.close()
    assert len(parser.stack) == 1, "an element is not closed"
    return parser.stack[0]


def run_in_chromium(folder, views):
    """Return the result of a script on each of several pages.

    A view is a page, a width, a colour scheme and the body of a function in
    JavaScript. Each page is in a frame of that width, as a window cannot be as
    narrow as a phone. All views share one start of Chromium.
    """
    frames = []
    for page, width, scheme, script in views:
        # The policy of the page itself blocks all other scripts.
        page, count = re.subn("<meta http-equiv=[^>]*>", "", page)
        assert count == 1
        script = (
            "<script>addEventListener('load', () => parent.postMessage("
            f"[{len(frames)}, (() => {{{script}}})()], '*'))</script></body>"
        )
        page = html.escape(page.replace("</body>", script))
        style = f"border: 0; color-scheme: {scheme}"
        frames.append(
            f'<iframe style="{style}" width="{width}" height="1000" srcdoc="{page}">'
            "</iframe>"
        )
    path = folder / "views.html"
    path.write_text(
        "<!DOCTYPE html><meta charset=utf-8><body><script>const all = [];"
        "addEventListener('message', ({data: [k, value]}) => { all[k] = value;"
        f"if (Object.keys(all).length < {len(frames)}) return;"
        "const found = document.createElement('pre'); found.id = 'found';"
        "found.textContent = JSON.stringify(all);"
        "document.body.replaceChildren(found)})"
        f"</script>{''.join(frames)}</body>",
        encoding="utf-8",
    )
    dom = chromium(folder, path, "--dump-dom")
    found = re.search(r'<pre id="found">([^<]*)</pre>', dom)
    assert found, dom[-2000:]
    return json.loads(html.unescape(found[1]))


def chromium(folder, path, *options, width=1400, height=1000, dark=False):
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",  # a container does not permit it
        "--disable-gpu",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        "--no-first-run",
        f"--user-data-dir={folder / 'chromium'}",
        f"--window-size={width},{height}",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        *options,
        path.as_uri(),
    ]
    ended = subprocess.run(command, capture_output=True, check=True, timeout=300)
    return ended.stdout.decode()
