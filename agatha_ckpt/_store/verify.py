"""Which partitions of done checkpoints are damaged."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agatha_ckpt._errors import NETWORK_ERRORS, CheckpointError
from agatha_ckpt._filesystem.parallel import map_ordered
from agatha_ckpt._format.codec import codec_for
from agatha_ckpt._format.manifest import Manifest
from agatha_ckpt._store.folder import Folder


@dataclass(frozen=True)
class DamagedPartition:
    """A partition of a done checkpoint that does not hold what was saved.

    Attributes
    ----------
    index : int
        Partition number, from 0.
    reason : str
        What is wrong with it.
    """

    index: int
    reason: str


def find_missing(folder: Folder, manifest: Manifest) -> list[DamagedPartition]:
    """Return the partitions whose file is missing or of another size.

    Costs one listing (one request for each 1,000 files on an object store).
    """
    listed = folder.list()
    damaged = []
    for index, info in enumerate(manifest.partitions):
        if info.file not in listed:
            damaged.append(DamagedPartition(index, "its file is missing"))
        elif (size := listed[info.file].bytes) != info.bytes:
            reason = f"its file has {size} bytes, not {info.bytes}"
            damaged.append(DamagedPartition(index, reason))
    return damaged


def verify(
    folder: Folder, manifest: Manifest, allow_pickle: bool
) -> list[DamagedPartition]:
    """Read a done checkpoint in full and return the partitions that are damaged.

    Files that Agatha wrote have no checksum. They are unpickled if that is allowed.
    """
    damaged = []
    concurrent = folder.files.concurrent
    for index, fault in enumerate(
        find_faults([(folder, manifest)], allow_pickle, concurrent)
    ):
        if isinstance(fault, OSError):
            raise fault
        if fault:
            damaged.append(DamagedPartition(index, fault))
    return damaged


def find_faults(
    done: Iterable[tuple[Folder, Manifest]], allow_pickle: bool, concurrent: bool
) -> Iterator[str | OSError | None]:
    """Yield for each partition of each checkpoint what is wrong with it, or None.

    Where *concurrent*, the partitions of several checkpoints are read at once. A file
    that cannot be read, as for lack of permission, is not damaged; its OSError is
    yielded in place of a reason.
    """
    partitions = (
        (folder, manifest, index)
        for folder, manifest in done
        for index in range(manifest.plan.npartitions)
    )
    return map_ordered(
        lambda partition: _fault(*partition, allow_pickle), partitions, concurrent
    )


def _fault(
    folder: Folder, manifest: Manifest, index: int, allow_pickle: bool
) -> str | OSError | None:
    info = manifest.partitions[index]
    where = folder.describe(index)
    try:
        with folder.reading(index, info, f"verifying {where}") as file:
            codec_for(manifest.plan.format).verify(file, info, allow_pickle)
    except CheckpointError as error:
        return str(error).removeprefix(f"{where} is damaged: ").split(";")[0]
    except NETWORK_ERRORS:
        raise
    except OSError as error:
        return error
    return None
