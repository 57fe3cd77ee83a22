"""Canonical encoding of values of libraries: by value, whatever their memory layout.

A filesystem counts by protocol and endpoint, not by credentials or tuning. Nothing is
imported here that the program has not imported itself.
"""

import gc
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter, methodcaller
from pathlib import PurePath
from types import MemberDescriptorType
from typing import Any

from agatha_ckpt._dask.canonical.encoder import (
    ABOVE_LIMIT,
    Encoder,
    Handler,
    binary,
    by,
    objects,
    tagged,
    text,
)
from agatha_ckpt._dask.canonical.objects import full_name, reduced


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
    if not plain.nbytes:
        return [binary(b"")]
    numpy: Any = sys.modules["numpy"]
    return [binary(numpy.ascontiguousarray(plain).reshape(-1).view(numpy.uint8))]


def _dtype(encoder: Encoder, dtype: Any) -> bytes:
    parts = [text(dtype.str), text(repr(dtype)), encoder.encode(dtype.itemsize)]
    for name in dtype.names or ():
        inner, *place = dtype.fields[name]
        parts += text(name), _dtype(encoder, inner), encoder.encode(place)
    if dtype.metadata:
        parts.append(encoder.encode(dtype.metadata))
    return tagged(b"dtype", encoder.encode(dtype.type), *parts)


def _scalar(encoder: Encoder, value: Any) -> bytes:
    numpy: Any = sys.modules["numpy"]
    array = numpy.asarray(value)
    own = encoder.encode_all((type(value), getattr(value, "__dict__", None)))
    return tagged(
        b"scalar", *own, _dtype(encoder, array.dtype), *_content(encoder, array)
    )


def _ufunc(encoder: Encoder, value: Any) -> bytes:
    name = str(value.__name__)
    if getattr(sys.modules["numpy"], name, None) is value:
        return tagged(b"ufunc", text(name))
    made_of = filter(callable, gc.get_referents(value))  # by frompyfunc
    return tagged(b"ufunc", text(name), *encoder.encode_all((value.types, *made_of)))


def _random_state(encoder: Encoder, value: Any) -> bytes:
    # numpy's own, which scipy and others hold, has another state in each process.
    if value is sys.modules["numpy.random.mtrand"]._rand:
        return tagged(b"rand")
    return objects(encoder, value)


def _masked(value: Any) -> tuple[Any, ...]:
    masked = sys.modules["numpy"].ma
    names = [n for n in vars(value) if n not in vars(masked.array(0))]
    own = {name: vars(value)[name] for name in names}  # of a derived type
    return value.data, masked.getmaskarray(value), value.fill_value, value.hardmask, own


def _zone(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"zone", text(value.key)) if value.key else encoder.refuse(value)


def _frame(value: Any) -> tuple[Any, ...]:
    columns = [value.iloc[:, place].array for place in range(value.shape[1])]
    return value.columns, value.index, *columns, *_extras(value)


def _series(value: Any) -> tuple[Any, ...]:
    return value.name, value.index, value.array, *_extras(value)


def _extras(value: Any) -> tuple[Any, ...]:
    own = {name: getattr(value, name, None) for name in value._metadata}
    return dict(value.attrs), value.flags.allows_duplicate_labels, own


def _index(value: Any) -> tuple[Any, ...]:
    levels = range(value.nlevels if value.nlevels > 1 else 0)
    values = [value.get_level_values(place) for place in levels] or [value.array]
    return list(value.names), getattr(value, "freqstr", None), *values


def _extension(encoder: Encoder, value: Any) -> bytes:
    """Encode the values of a pandas array."""
    pandas = sys.modules["pandas"]
    dtype: Any = value.dtype
    if value.nbytes > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT)
    if not type(value).__module__.startswith("pandas."):
        return objects(encoder, value)
    head = text(type(value).__name__), text(repr(dtype)), text(str(dtype))
    if isinstance(dtype, pandas.CategoricalDtype):
        members = [value.categories, value.codes, value.ordered]
    elif isinstance(value, pandas.arrays.NumpyExtensionArray):
        members = [value.to_numpy()]
    elif hasattr(value, "asi8"):
        members = [value.asi8, getattr(value, "freqstr", None)]
    elif type(value).__name__ == "ArrowExtensionArray":
        members = [value.__arrow_array__()]
    else:
        members = [list(value)]
    return tagged(b"ext", *head, *encoder.encode_all(members))


def _arrow(encoder: Encoder, value: Any) -> bytes:
    """Encode an Arrow array or table: its type or schema, and each member."""
    if value.nbytes > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT)
    schema = getattr(value, "schema", None)
    columns = [value] if schema is None else value.columns
    kind = value.type if schema is None else schema
    head = encoder.encode_all((type(value), kind, len(value)))
    members = [part for column in columns for part in _arrow_values(column)]
    return tagged(b"arrow", *head, *encoder.encode_all(members))


_ALL = 10**9
# What to_pylist loses: nanoseconds, the dictionary, and the member of a union.
_ARROW_ALONE = re.compile(r"time64\[ns\]|dictionary<|union<")


def _arrow_values(column: Any) -> Iterator[Any]:
    yield column.to_pylist()
    if _ARROW_ALONE.search(str(column.type)):
        yield column.to_string(window=_ALL, container_window=_ALL)


def _arrow_scalar(scalar: Any) -> tuple[Any, ...]:
    if _ARROW_ALONE.search(str(scalar.type)):
        return scalar.type, sys.modules["pyarrow"].repeat(scalar, 1)
    return scalar.type, scalar.as_py()


def _arrow_type(encoder: Encoder, value: Any) -> bytes:
    """Encode an Arrow type, field or schema by its text, which has all of it."""
    if hasattr(value, "to_string"):
        options = {"show_schema_metadata": True} if hasattr(value, "names") else {}
        shown = value.to_string(truncate_metadata=False, **options) if options else ""
        return tagged(b"schema", text(shown), *encoder.encode_all(list(value)))
    fields = encoder.encode_all(map(value.field, range(value.num_fields)))
    return tagged(b"arrowtype", text(repr(value)), text(str(value)), *fields)


def _arrow_filesystem(encoder: Encoder, value: Any) -> bytes:
    if value.type_name == "local":
        return tagged(b"local")
    if value.type_name == "subtree":
        inner = encoder.encode(value.base_fs)
        return tagged(b"subtree", text(value.base_path), inner)
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
        name: value
        if name == "fo" or not isinstance(value, Mapping)
        else public_options(value)
        for name, value in sorted(options.items())
        if not _SECRET.search(name) and not _TUNING.fullmatch(name)
    }


def _filesystem(value: Any) -> tuple[Any, ...]:
    protocol = value.protocol
    names = [protocol] if isinstance(protocol, str) else sorted(protocol)
    given = getattr(value, "storage_args", ())
    parameters = (
        *inspect.signature(type(value)).parameters,
        *map(str, range(len(given))),
    )
    positional = dict(zip(parameters, given, strict=False))
    options = public_options(positional | value.storage_options)
    if "s3" in names:
        options |= options.pop("client_kwargs", None) or {}
        found = next((os.environ[n] for n in _ENDPOINTS if n in os.environ), None)
        options["endpoint_url"] = options.get("endpoint_url") or found
    return names, options, getattr(value, "account_name", None)


def _fragment(wrapper: Any) -> tuple[Any, ...]:
    """Return what a part of a Parquet dataset is; dask's token of it changes by use."""
    part = wrapper.fragment
    return part.path, part.buffer, part.filesystem, str(part.partition_expression)


def _polars_series(value: Any) -> tuple[Any, ...]:
    kind = repr(value.dtype)
    # Python's times end at microseconds.
    exact = value.to_physical() if re.search(r"'ns'|\bTime\b", kind) else value
    return value.name, kind, value.to_list(), exact is not value and exact.to_list()


def _clause(clause: Any) -> tuple[Any, ...]:
    """Return what a query is made of; its text leaves out names and types."""
    names: list[str] = []
    for part in sys.modules["sqlalchemy.sql.visitors"].iterate(clause):
        for each in (part, *getattr(part, "exported_columns", ())):
            name = str(getattr(each, "name", getattr(each, "key", "")))
            # One that SQLAlchemy makes has an address in it.
            names += "" if "%(" in name else name, repr(getattr(each, "type", None))
    options: Any = dict(getattr(clause, "get_execution_options", dict)())
    return str(clause), clause.compile().params, names, options


def _unordered(members: Callable[[Any], Iterable[Any]]) -> Handler:
    """Return what encodes a container whose order is that of its hashes."""

    def encode(encoder: Encoder, value: Any) -> bytes:
        return tagged(
            b"U", encoder.encode(type(value)), *encoder.unordered(members(value))
        )

    return encode


def _exception(error: BaseException) -> tuple[Any, ...]:
    """Return what pickle would store of an error, and what it leaves out."""
    fields = {
        name: getattr(error, name)
        for base in type(error).__mro__
        for name, member in vars(base).items()
        if type(member) is MemberDescriptorType
    }
    return *reduced(error), fields, error.__cause__


def _variable(value: Any) -> tuple[Any, ...]:
    return value.dims, value.data, dict(value.attrs)


def _data_array(value: Any) -> tuple[Any, ...]:
    places = {name: place.variable for name, place in value.coords.items()}
    return value.name, value.variable, places


_MESSAGE = by(lambda message: [message.SerializePartialToString(deterministic=True)])

HANDLERS: dict[str, Handler] = {
    "builtins.BaseException": by(_exception),
    "enum.Enum": by(attrgetter("_name_", "_value_")),
    "pathlib.PurePath": by(lambda p: (PurePath.__str__(p), getattr(p, "__dict__", 0))),
    "random.Random": by(lambda random: [random.getstate(), vars(random)]),
    "re.Pattern": by(attrgetter("pattern", "flags")),
    "zoneinfo.ZoneInfo": _zone,
    "google._upb._message.Message": _MESSAGE,
    "google.protobuf.message.Message": _MESSAGE,
    "h5py._objects.ObjectID": Encoder.refuse,  # a number, another in each process
    "h5py._hl.dataset.Dataset": by(
        lambda data: [os.path.abspath(data.file.filename), data.name]
    ),
    "numpy.ndarray": _ndarray,
    "immutables._map.Map": _unordered(methodcaller("items")),
    "numba.core.dispatcher.Dispatcher": by(attrgetter("py_func", "targetoptions")),
    "numpy.generic": _scalar,
    "numpy.memmap": _ndarray,
    "numpy.dtype": _dtype,
    "numpy.ma.MaskedArray": by(_masked),
    "numpy.random.bit_generator.BitGenerator": by(attrgetter("state", "seed_seq")),
    "numpy.random.bit_generator.SeedSequence": by(lambda seed: [seed.state]),
    "numpy.random._generator.Generator": by(lambda random: [random.bit_generator]),
    "numpy.random.mtrand.RandomState": _random_state,
    "numpy.busdaycalendar": by(attrgetter("weekmask", "holidays")),
    "numpy.ma.core.MaskedConstant": by(lambda _: []),
    "numpy.ufunc": _ufunc,
    "numpy.vectorize": by(
        attrgetter("pyfunc", "otypes", "excluded", "signature", "cache")
    ),
    "numpy._ArrayFunctionDispatcher": lambda _, value: text(full_name(value)),
    "pandas.DataFrame": by(_frame),
    "pandas.Series": by(_series),
    "pandas.Index": by(_index),
    "pandas.api.extensions.ExtensionArray": _extension,
    "pandas._libs.tslibs.nattype._NaT": by(lambda _: []),
    "pandas._libs.missing.C_NAType": by(lambda _: []),
    "pandas._libs.tslibs.timestamps._Timestamp": by(
        attrgetter("asm8", "tzinfo", "fold")
    ),
    "pandas._libs.tslibs.timedeltas._Timedelta": by(lambda delta: [delta.asm8]),
    "dask.dataframe.dask_expr.io.parquet.FragmentWrapper": by(_fragment),
    "polars.dataframe.frame.DataFrame": by(lambda frame: frame.get_columns()),
    "polars.series.series.Series": by(_polars_series),
    "pyarrow._fs.FileSystem": _arrow_filesystem,
    "pyarrow.lib._PandasConvertible": _arrow,
    "pyarrow.lib.Buffer": by(lambda buffer: [buffer.to_pybytes()]),
    "pyarrow.lib.Scalar": by(_arrow_scalar),
    "pyarrow.lib.Schema": _arrow_type,
    "pyarrow.lib.Field": by(attrgetter("name", "type", "nullable", "metadata")),
    "pyarrow.lib.Tensor": by(lambda tensor: [tensor.to_numpy()]),
    "pyarrow._compute.FunctionOptions": by(lambda options: [options.serialize()]),
    "pyrsistent._pmap.PMap": _unordered(methodcaller("items")),
    "pyrsistent._pset.PSet": _unordered(iter),
    "rpds.HashTrieMap": _unordered(methodcaller("items")),
    "rpds.HashTrieSet": _unordered(iter),
    "sqlalchemy.engine.base.Engine": by(
        lambda engine: [engine.url, dict(engine.get_execution_options())]
    ),
    "sqlalchemy.engine.url.URL": by(lambda url: [url.render_as_string()]),
    "sqlalchemy.engine.row.Row": by(lambda row: [row._fields, tuple(row)]),
    "sqlalchemy.sql.elements.ClauseElement": by(_clause),
    "sqlite3.Row": by(lambda row: [row.keys(), tuple(row)]),
    # Without a lock, and an id of its own.
    "xarray.backends.file_manager.CachingFileManager": by(
        lambda files: files.__getstate__()[:4]
    ),
    "xarray.core.variable.Variable": by(_variable),
    "xarray.core.dataarray.DataArray": by(_data_array),
    "xarray.core.dataset.Dataset": by(
        lambda data: [dict(data.variables), list(data.coords), dict(data.attrs)]
    ),
    "pyarrow.lib.DataType": _arrow_type,
    "fsspec.spec.AbstractFileSystem": by(_filesystem),
    "fsspec.core.OpenFile": by(
        attrgetter("fs", "path", "mode", "compression", "encoding", "errors", "newline")
    ),
}
# Where older versions keep them.
HANDLERS |= {
    "pathlib._local.PurePath": HANDLERS["pathlib.PurePath"],
    "numpy.ma.core.MaskedArray": HANDLERS["numpy.ma.MaskedArray"],
    "pandas.core.frame.DataFrame": HANDLERS["pandas.DataFrame"],
    "pandas.core.series.Series": HANDLERS["pandas.Series"],
    "pandas.core.indexes.base.Index": HANDLERS["pandas.Index"],
    "pandas.core.arrays.base.ExtensionArray": _extension,
}
