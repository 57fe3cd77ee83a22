"""Canonical encoding of values of libraries: by value, whatever their memory layout.

A filesystem counts by protocol and endpoint, not by credentials or tuning. Nothing is
imported here that the program has not imported itself.
"""

import inspect
import os
import re
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from agatha_ckpt._dask.canonical.encoder import (
    ABOVE_LIMIT,
    Encoder,
    Handler,
    binary,
    tagged,
    text,
)
from agatha_ckpt._dask.canonical.objects import attributes, full_name


def _path(encoder: Encoder, value: Any) -> bytes:
    parts = encoder.of_type(type(value)), text(PurePath.__str__(value))
    return tagged(b"path", *parts, encoder.encode(attributes(value)))


def _pattern(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"regex", *encoder.encode_all((value.pattern, value.flags)))


def _defaultdict(encoder: Encoder, value: Any) -> bytes:
    items = encoder.encode(dict(dict.items(value)))
    return tagged(b"dd", encoder.encode(value.default_factory), items)


def _ndarray(encoder: Encoder, value: Any) -> bytes:
    numpy: Any = sys.modules["numpy"]
    plain = numpy.ndarray.view(value, numpy.ndarray)
    head = _dtype(encoder, plain.dtype), encoder.encode(plain.shape)
    if plain.nbytes > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT, *head)
    encoder.count(plain.nbytes)
    return tagged(b"nd", *head, *_content(encoder, plain))


def _content(encoder: Encoder, plain: Any) -> list[bytes]:
    """Encode the members of an array; padding between fields is not part of them."""
    if plain.dtype.names is not None:
        fields = [_content(encoder, plain[name]) for name in plain.dtype.names]
        return [part for field in fields for part in field]
    if plain.dtype.char in "gG":  # with bytes in between that have no meaning
        return [encoder.encode([repr(number) for number in plain.flat])]
    if plain.dtype.hasobject or plain.dtype.kind not in "biufcmMSUV":
        return [encoder.encode(list(plain.flat))]
    return [binary(plain.tobytes())]


def _dtype(encoder: Encoder, dtype: Any) -> bytes:
    parts = [text(dtype.str), text(repr(dtype)), encoder.encode(dtype.itemsize)]
    for name in dtype.names or ():
        inner, *place = dtype.fields[name]
        parts += text(name), _dtype(encoder, inner), encoder.encode(place)
    return tagged(b"dtype", encoder.of_type(dtype.type), *parts)


def _scalar(encoder: Encoder, value: Any) -> bytes:
    numpy: Any = sys.modules["numpy"]
    array = numpy.asarray(value)
    parts = _dtype(encoder, array.dtype), *_content(encoder, array)
    return tagged(b"scalar", encoder.of_type(type(value)), *parts)


def _ufunc(encoder: Encoder, value: Any) -> bytes:
    name = str(value.__name__)
    if getattr(sys.modules["numpy"], name, None) is not value:
        return encoder.refuse(value)
    return tagged(b"ufunc", text(name))


def _by_name(_: Encoder, value: Any) -> bytes:
    return tagged(b"B", text(full_name(value)))


def _frame(encoder: Encoder, value: Any) -> bytes:
    columns = [value.iloc[:, place].array for place in range(value.shape[1])]
    parts = encoder.encode_all((value.columns, value.index, *columns))
    return tagged(b"frame", *parts, *_extras(encoder, value))


def _series(encoder: Encoder, value: Any) -> bytes:
    parts = encoder.encode_all((value.name, value.index, value.array))
    return tagged(b"series", *parts, *_extras(encoder, value))


def _extras(encoder: Encoder, value: Any) -> list[bytes]:
    unique = value.flags.allows_duplicate_labels
    own = {name: getattr(value, name, None) for name in value._metadata}
    return encoder.encode_all((dict(value.attrs), unique, own, type(value)))


def _index(encoder: Encoder, value: Any) -> bytes:
    names, frequency = list(value.names), getattr(value, "freqstr", None)
    if value.nlevels > 1:
        values = [value.get_level_values(place) for place in range(value.nlevels)]
    else:
        values = [value.array]
    parts = encoder.encode_all((type(value), names, frequency, *values))
    return tagged(b"index", *parts)


def _extension(encoder: Encoder, value: Any) -> bytes:
    """Encode the values of a pandas array."""
    pandas, numpy = sys.modules["pandas"], sys.modules["numpy"]
    dtype: Any = value.dtype
    if value.nbytes > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT)
    head = text(type(value).__name__), text(repr(dtype)), text(str(dtype))
    if isinstance(dtype, pandas.CategoricalDtype):
        members = [value.categories, value.codes, value.ordered]
    elif isinstance(dtype, numpy.dtype) and dtype.kind not in "mM":
        members = [value.to_numpy()]
    elif hasattr(value, "asi8"):
        members = [value.asi8, getattr(value, "freqstr", None)]
    else:
        members = [list(value)]
    return tagged(b"ext", *head, *encoder.encode_all(members))


def _timestamp(encoder: Encoder, value: Any) -> bytes:
    zone, fold = getattr(value, "tzinfo", None), getattr(value, "fold", 0)
    return tagged(b"stamp", *encoder.encode_all((type(value), value.asm8, zone, fold)))


def _singleton(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"one", encoder.of_type(type(value)))


def _arrow(encoder: Encoder, value: Any) -> bytes:
    """Encode an Arrow array or table: its type or schema, and each member."""
    if value.nbytes > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT)
    schema = getattr(value, "schema", None)
    columns = [value] if schema is None else value.columns
    head = encoder.encode_all((type(value), value.type if schema is None else schema))
    members = [encoder.encode(column.to_pylist()) for column in columns]
    return tagged(b"arrow", *head, *members)


def _arrow_scalar(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"arrow1", *encoder.encode_all((value.type, value.as_py())))


def _arrow_buffer(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"buffer", encoder.encode(value.to_pybytes()))


def _arrow_type(encoder: Encoder, value: Any) -> bytes:
    """Encode an Arrow type, field or schema by its text, which has all of it."""
    if hasattr(value, "to_string"):
        options = {"show_schema_metadata": True} if hasattr(value, "names") else {}
        shown = value.to_string(truncate_metadata=False, **options) if options else ""
        return tagged(b"schema", text(shown), *encoder.encode_all(list(value)))
    return tagged(b"arrowtype", text(repr(value)), text(str(value)))


def _arrow_filesystem(encoder: Encoder, value: Any) -> bytes:
    if value.type_name == "local":
        return tagged(b"local")
    return encoder.refuse(value)  # its state has credentials in it


_SECRET = re.compile(
    "anon|auth|cert|connection|cookie|cred|key|passw|private|profile|sas|secret|"
    "session|sign|token|user",
    re.IGNORECASE,
)
# Options of a filesystem that decide how it is read, not what.
_TUNING = re.compile(
    "asynchronous|auto_mkdir|batch_size|(default_)?block_?size|(default_)?cache_\\w+|"
    "check_files|config_kwargs|consistency|default_fill_cache|fixed_upload_size|loop|"
    "listings_expiry_time|max_(concurrency|paths)|requester_pays|retries|(.*_)?timeout|"
    "skip_instance_cache|use_(listings_cache|ssl)|verify_uploads|version_aware"
)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def public_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that decide where files are: no credentials, no tuning."""
    return {
        name: public_options(value) if isinstance(value, Mapping) else value
        for name, value in sorted(options.items())
        if not _SECRET.search(name) and not _TUNING.fullmatch(name)
    }


def _filesystem(encoder: Encoder, value: Any) -> bytes:
    protocol = value.protocol
    names = [protocol] if isinstance(protocol, str) else sorted(protocol)
    parameters = list(inspect.signature(type(value)).parameters)
    positional = dict(zip(parameters, getattr(value, "storage_args", ()), strict=False))
    options = public_options(positional | value.storage_options)
    if "s3" in names:
        options |= options.pop("client_kwargs", None) or {}
        found = next((os.environ[n] for n in _ENDPOINTS if n in os.environ), None)
        options["endpoint_url"] = options.get("endpoint_url") or found
    options["account"] = getattr(value, "account_name", None)
    parts = encoder.encode_all((names, options))
    return tagged(b"fs", encoder.of_type(type(value)), *parts)


def _open_file(encoder: Encoder, value: Any) -> bytes:
    parts = (value.fs, value.path, value.mode, value.compression)
    rest = (value.encoding, value.errors, value.newline)
    return tagged(b"file", *encoder.encode_all((*parts, *rest)))


HANDLERS: dict[str, Handler] = {
    "collections.defaultdict": _defaultdict,
    "pathlib.PurePath": _path,
    "pathlib._local.PurePath": _path,
    "re.Pattern": _pattern,
    "numpy.ndarray": _ndarray,
    "numpy.generic": _scalar,
    "numpy.dtype": _dtype,
    "numpy.ufunc": _ufunc,
    "numpy._ArrayFunctionDispatcher": _by_name,
    "pandas.DataFrame": _frame,
    "pandas.core.frame.DataFrame": _frame,
    "pandas.Series": _series,
    "pandas.core.series.Series": _series,
    "pandas.Index": _index,
    "pandas.core.indexes.base.Index": _index,
    "pandas.api.extensions.ExtensionArray": _extension,
    "pandas.core.arrays.base.ExtensionArray": _extension,
    "pandas._libs.tslibs.nattype._NaT": _singleton,
    "pandas._libs.missing.C_NAType": _singleton,
    "pandas._libs.tslibs.timestamps._Timestamp": _timestamp,
    "pandas._libs.tslibs.timedeltas._Timedelta": _timestamp,
    "pyarrow._fs.FileSystem": _arrow_filesystem,
    "pyarrow.lib._PandasConvertible": _arrow,
    "pyarrow.lib.Buffer": _arrow_buffer,
    "pyarrow.lib.Scalar": _arrow_scalar,
    "pyarrow.lib.Schema": _arrow_type,
    "pyarrow.lib.Field": _arrow_type,
    "pyarrow.lib.DataType": _arrow_type,
    "fsspec.spec.AbstractFileSystem": _filesystem,
    "fsspec.core.OpenFile": _open_file,
}
