"""HTTP."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from agatha_ckpt._filesystem.remote import RemoteFiles


class HTTPFiles(RemoteFiles):
    """An HTTP filesystem, whose listings are the links of a page."""

    def _ls(self, path: str) -> Iterable[Any]:
        # Links have names with spaces and other letters in percent-encoding.
        plain, links = unquote(path), super()._ls(path)
        below = [unquote(link["name"]).removeprefix(plain) for link in links]
        return [
            {**link, "name": path + name}
            for link, name in zip(links, below, strict=True)
        ]
