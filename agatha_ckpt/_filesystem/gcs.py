"""Google Cloud Storage."""

import json
import re
from collections.abc import Iterable, Sequence
from email import message_from_bytes
from typing import Any
from urllib.parse import quote

from agatha_ckpt._filesystem.object_store import ObjectStoreFiles

_BOUNDARY = "==0=="


class GCSFiles(ObjectStoreFiles):
    """A gcsfs filesystem; the tag of an object is its generation."""

    def _read_tagged(self, path: str) -> tuple[str, bytes]:
        headers, content = self._fs.call("GET", self._fs.url(path))
        return headers["X-Goog-Generation"], content

    def _write_if(self, path: str, data: bytes, tag: str) -> None:
        # As gcsfs does it for mode="create", where the generation is 0.
        bucket, key, _ = self._fs.split_path(path)
        server, _, _ = self._fs.url(path).partition("/download/")
        described = json.dumps({"name": key})
        head = (
            f"--{_BOUNDARY}\nContent-Type: application/json; charset=UTF-8\n\n"
            f"{described}\n"
            f"--{_BOUNDARY}\nContent-Type: application/octet-stream\n\n"
        )
        self._fs.call(
            "POST",
            f"{server}/upload/storage/v1/b/{quote(bucket)}/o",
            uploadType="multipart",
            ifGenerationMatch=tag,
            headers={"Content-Type": f'multipart/related; boundary="{_BOUNDARY}"'},
            data=head.encode() + data + f"\n--{_BOUNDARY}--".encode(),
        )

    def _remove_if(self, path: str, tag: str) -> None:
        bucket, key, _ = self._fs.split_path(path)
        self._fs.call("DELETE", "b/{}/o/{}", bucket, key, ifGenerationMatch=tag)

    def _remove_batch(self, paths: Sequence[str]) -> Sequence[str]:
        server, _, _ = self._fs.url(paths[0]).partition("/download/")
        body = []
        for number, path in enumerate(paths):
            bucket, key, _ = self._fs.split_path(path)
            target = f"/storage/v1/b/{quote(bucket)}/o/{quote(key, safe='')}"
            body += [f"--{_BOUNDARY}", "Content-Type: application/http"]
            body += [f"Content-ID: <{number}>", "", f"DELETE {target} HTTP/1.1"]
            body += ["Content-Length: 0", "", ""]
        headers, content = self._fs.call(
            "POST",
            f"{server}/batch/storage/v1",
            headers={"Content-Type": f'multipart/mixed; boundary="{_BOUNDARY}"'},
            data="\r\n".join([*body, f"--{_BOUNDARY}--", ""]).encode(),
        )
        done = _removed(headers["Content-Type"], content)
        return [path for number, path in enumerate(paths) if number not in done]

    def _find(self, bucket: str, prefix: str) -> Iterable[Any]:
        # gcsfs sends a second request where a `find` finds nothing.
        entries: Iterable[Any] = self._fs.ls(bucket, detail=True, prefix=prefix)
        return entries


def _removed(content_type: str, content: bytes) -> set[int]:
    """Return the numbers of the objects that are not there after a batch request."""
    head = f"Content-Type: {content_type}\r\n\r\n"
    done = set()
    for part in message_from_bytes(head.encode() + content).walk():
        number = re.search(r"\d+", part.get("Content-ID", ""))
        status = re.match(r"\s*HTTP/\S+ (\d+)", str(part.get_payload()))
        if number and status and status[1] in ("200", "204", "404"):
            done.add(int(number[0]))
    return done
