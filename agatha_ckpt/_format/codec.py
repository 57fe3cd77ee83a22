"""The registry of formats: each codec is imported when its format is met."""

from functools import cache
from importlib import import_module

from agatha_ckpt._errors import UnsupportedFormatError
from agatha_ckpt._format.base import Codec
from agatha_ckpt._format.names import LEGACY, MSGPACK, NPY, PARQUET, SUFFIXES, TEXT

_CODECS = {
    MSGPACK: ("partition_file", "MsgpackCodec"),
    TEXT: ("text", "TextCodec"),
    PARQUET: ("parquet", "ParquetCodec"),
    NPY: ("npy", "NpyCodec"),
    LEGACY: ("agatha", "AgathaCodec"),
}
_BY_SUFFIX = {suffix: name for name, suffix in SUFFIXES.items()} | {"pkl": LEGACY}


@cache
def codec_for(format: str) -> Codec:
    """Return the codec of a format, by its name in a manifest.

    Raises
    ------
    UnsupportedFormatError
        There is none.
    """
    if format not in _CODECS:
        known = ", ".join(map(repr, _CODECS))
        raise UnsupportedFormatError(
            f"unknown format {format!r}: expected one of {known}; if a newer version "
            "of agatha_ckpt wrote it, upgrade"
        )
    module, name = _CODECS[format]
    codec: Codec = getattr(import_module(f"agatha_ckpt._format.{module}"), name)()
    return codec


def codec_of_suffix(suffix: str) -> Codec | None:
    """Return the codec whose partition files have this suffix, or None."""
    name = _BY_SUFFIX.get(suffix)
    return codec_for(name) if name else None
