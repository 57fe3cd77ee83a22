"""Azure Blob Storage."""

from typing import Any

from fsspec.asyn import sync

from agatha_ckpt._filesystem.object_store import ObjectStoreFiles


class AzureFiles(ObjectStoreFiles):
    """An adlfs filesystem."""

    def _read_tagged(self, path: str) -> tuple[str, bytes]:
        from azure.core.exceptions import ResourceNotFoundError

        async def read() -> tuple[str, bytes]:
            async with self._blob(path) as blob:
                stream = await blob.download_blob()
                return stream.properties.etag, await stream.readall()

        try:
            tagged: tuple[str, bytes] = sync(self._fs.loop, read)
        except ResourceNotFoundError as error:
            raise FileNotFoundError(path) from error
        return tagged

    def _write_if(self, path: str, data: bytes, tag: str) -> None:
        self._fs.pipe_file(path, data, overwrite=True, **_unchanged(tag))

    def _remove_if(self, path: str, tag: str) -> None:
        async def remove() -> None:
            async with self._blob(path) as blob:
                await blob.delete_blob(**_unchanged(tag))

        sync(self._fs.loop, remove)

    def _blob(self, path: str) -> Any:
        container, blob, _ = self._fs.split_path(path)
        return self._fs.service_client.get_blob_client(container=container, blob=blob)


def _unchanged(tag: str) -> dict[str, Any]:
    from azure.core import MatchConditions

    return {"etag": tag, "match_condition": MatchConditions.IfNotModified}
