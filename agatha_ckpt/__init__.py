"""Named, durable checkpoints of dask bags, on local disk or any bucket.

The package is also the module of the original function API::

    import agatha_ckpt as checkpoint

    checkpoint.set_root("/data/run-1")
    sentences = checkpoint.checkpoint("sentences", documents.map(split))
"""

from agatha_ckpt._checkpointer import Checkpointer
from agatha_ckpt._errors import (
    CheckpointConflictError,
    CheckpointError,
    CheckpointHalt,
    CheckpointNotFoundError,
    CorruptCheckpointError,
    EncodeError,
    InvalidNameError,
    PickleNotAllowedError,
    RootNotSetError,
    StaleCheckpointWarning,
    UnsupportedFormatError,
)
from agatha_ckpt._facade import (
    checkpoint,
    ckpt,
    clear_all_ckpt,
    clear_ckpt,
    clear_halt_point,
    disable,
    enable,
    get_allow_partial,
    get_allow_pickle,
    get_checkpoints_like,
    get_compression,
    get_done_file_path,
    get_on_stale,
    get_or_make_ckpt_dir,
    get_root,
    get_verbose,
    is_ckpt_done,
    reset,
    set_allow_partial,
    set_allow_pickle,
    set_compression,
    set_halt_point,
    set_on_stale,
    set_root,
    set_verbose,
)
from agatha_ckpt._format.manifest import Manifest, PartitionInfo, Plan
from agatha_ckpt._format.manifest import library_version as _library_version
from agatha_ckpt._run.explanation import Explanation
from agatha_ckpt._settings import Settings
from agatha_ckpt._store.status import Status
from agatha_ckpt._store.store import CheckpointStore
from agatha_ckpt._store.verify import DamagedPartition

__version__ = _library_version()

__all__ = [
    "CheckpointConflictError",
    "CheckpointError",
    "CheckpointHalt",
    "CheckpointNotFoundError",
    "CheckpointStore",
    "Checkpointer",
    "CorruptCheckpointError",
    "DamagedPartition",
    "EncodeError",
    "Explanation",
    "InvalidNameError",
    "Manifest",
    "PartitionInfo",
    "PickleNotAllowedError",
    "Plan",
    "RootNotSetError",
    "Settings",
    "StaleCheckpointWarning",
    "Status",
    "UnsupportedFormatError",
    "checkpoint",
    "ckpt",
    "clear_all_ckpt",
    "clear_ckpt",
    "clear_halt_point",
    "disable",
    "enable",
    "get_allow_partial",
    "get_allow_pickle",
    "get_checkpoints_like",
    "get_compression",
    "get_done_file_path",
    "get_on_stale",
    "get_or_make_ckpt_dir",
    "get_root",
    "get_verbose",
    "is_ckpt_done",
    "reset",
    "set_allow_partial",
    "set_allow_pickle",
    "set_compression",
    "set_halt_point",
    "set_on_stale",
    "set_root",
    "set_verbose",
]
