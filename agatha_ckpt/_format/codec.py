"""The registry of formats."""

from agatha_ckpt._errors import UnsupportedFormatError
from agatha_ckpt._format.agatha import AgathaCodec
from agatha_ckpt._format.base import Codec
from agatha_ckpt._format.npy import NpyCodec
from agatha_ckpt._format.parquet import ParquetCodec
from agatha_ckpt._format.partition_file import MsgpackCodec
from agatha_ckpt._format.text import TextCodec

_CODECS: tuple[Codec, ...] = (
    MsgpackCodec(),
    TextCodec(),
    ParquetCodec(),
    NpyCodec(),
    AgathaCodec(),
)
_BY_NAME = {codec.name: codec for codec in _CODECS}
_BY_SUFFIX = {codec.suffix: codec for codec in _CODECS}


def codec_for(format: str) -> Codec:
    """Return the codec of a format, by its name in a manifest.

    Raises
    ------
    UnsupportedFormatError
        There is none.
    """
    if codec := _BY_NAME.get(format):
        return codec
    raise UnsupportedFormatError(
        f"unknown format {format!r}: expected one of {', '.join(map(repr, _BY_NAME))}; "
        "if a newer version of agatha_ckpt wrote it, upgrade"
    )


def codec_of_suffix(suffix: str) -> Codec | None:
    """Return the codec whose partition files have this suffix, or None."""
    return _BY_SUFFIX.get(suffix)
