"""Pages of HTML as tests see them: parsed, or as Chromium shows them."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr", "wbr"}
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
        """The elements below this one of a tag, or of a class."""
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
    """Reads a page of which every element is closed where it should be."""

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
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack[-1].tag == tag, f"{tag} closes {self.stack[-1].tag}"
        self.stack.pop()

    def handle_data(self, data):
        self.stack[-1].children.append(data)


def parsed(page):
    parser = Parser()
    parser.feed(page)
    parser.close()
    assert len(parser.stack) == 1, "not all is closed"
    return parser.stack[0]


def seen_by_chromium(page, folder, expression, width, dark=False):
    """What an *expression* of JavaScript gives on a page as Chromium shows it.

    The page stands in a frame of that *width*: a window cannot be as narrow as a
    telephone.
    """
    # The page itself lets no other script run.
    page, count = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert count == 1
    script = (
        "<script>addEventListener('load', () => parent.postMessage(JSON.stringify("
        f"(() => {{{expression}}})()), '*'))</script></body>"
    )
    page = html.escape(page.replace("</body>", script))
    path = folder / "seen.html"
    path.write_text(
        "<!DOCTYPE html><meta charset=utf-8><meta name=color-scheme "
        "content='light dark'><body><script>addEventListener('message', (event) => {"
        "const found = document.createElement('pre'); found.id = 'found';"
        "found.textContent = event.data; document.body.replaceChildren(found)})"
        f'</script><iframe style="border: 0" width="{width}" height="1000" '
        f'srcdoc="{page}"></iframe></body>',
        encoding="utf-8",
    )
    dom = chromium(folder, path, 1400, "--dump-dom", dark=dark)
    found = re.search(r'<pre id="found">([^<]*)</pre>', dom)
    assert found, dom[-2000:]
    return json.loads(html.unescape(found[1]))


def chromium(folder, path, width, *options, dark=False, height=1000):
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",  # which a container has no rights for
        "--disable-gpu",
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
