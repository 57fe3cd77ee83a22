"""Canonical encoding of values of numpy, pandas and Arrow.

Arrays and frames count by value: dtype, shape and content in C order, whatever their
layout in memory. Nothing is imported here that the program has not imported itself.
"""

import sys
from importlib import import_module
from typing import Any

from agatha_ckpt._dask.canonical.encoder import (
    ABOVE_LIMIT,
    Encoder,
    Handler,
    binary,
    tagged,
    text,
)
from agatha_ckpt._dask.canonical.objects import display, full_name

# numpy


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
        return [
            found
            for name in plain.dtype.names
            for found in _content(encoder, plain[name])
        ]
    if plain.dtype.hasobject or plain.dtype.kind == "T":
        return [encoder.encode(list(plain.flat))]
    if plain.dtype.char in "gG":  # with bytes in between that have no meaning
        return [encoder.encode([repr(number) for number in plain.flat])]
    return [binary(plain.tobytes())]


def _dtype(encoder: Encoder, dtype: Any) -> bytes:
    parts = [text(dtype.str), encoder.encode(dtype.itemsize)]
    if dtype.metadata:
        parts.append(encoder.encode(dict(dtype.metadata)))
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        parts += _dtype(encoder, base), encoder.encode(shape)
    if dtype.names is not None:
        parts += encoder.of_type(dtype.type), encoder.encode(dtype.isalignedstruct)
        for name in dtype.names:
            inner, *place = dtype.fields[name]
            parts += text(name), _dtype(encoder, inner), encoder.encode(place)
    if dtype.kind == "T":
        parts += text(repr(dtype)), encoder.encode(getattr(dtype, "na_object", None))
    return tagged(b"dtype", *parts)


def _masked(encoder: Encoder, value: Any) -> bytes:
    numpy: Any = sys.modules["numpy"]
    parts = (
        numpy.ma.getdata(value),
        numpy.ma.getmaskarray(value),
        value.fill_value,
        value.hardmask,
    )
    return tagged(b"masked", *encoder.encode_all(parts))


def _memmap(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"memmap", _ndarray(encoder, value))


def _scalar(encoder: Encoder, value: Any) -> bytes:
    numpy: Any = sys.modules["numpy"]
    array = numpy.asarray(value)
    parts = _dtype(encoder, array.dtype), *_content(encoder, array)
    return tagged(b"scalar", encoder.of_type(type(value)), *parts)


def _ufunc(encoder: Encoder, value: Any) -> bytes:
    numpy: Any = sys.modules["numpy"]
    name = str(value.__name__)
    if getattr(numpy, name, None) is not value:
        return encoder.refuse(value)
    return tagged(b"ufunc", text(name))


def _dispatcher(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"B", text(full_name(value)))


def _generator(encoder: Encoder, value: Any) -> bytes:
    kind = encoder.of_type(type(value))
    return tagged(b"random", kind, encoder.encode(value.bit_generator.state))


# pandas


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
    frequency = getattr(value, "freqstr", None)
    parts = (type(value), list(value.names), frequency, value.array)
    return tagged(b"index", *encoder.encode_all(parts))


def _multi_index(encoder: Encoder, value: Any) -> bytes:
    levels = [value.get_level_values(place) for place in range(value.nlevels)]
    parts = encoder.encode_all((list(value.names), value.sortorder, *levels))
    return tagged(b"multi", *parts)


def _range_index(encoder: Encoder, value: Any) -> bytes:
    parts = (list(value.names), value.start, value.stop, value.step)
    return tagged(b"rangeindex", *encoder.encode_all(parts))


def _extension(encoder: Encoder, value: Any) -> bytes:
    """Encode the values of a pandas array: by storage where it is plain, else each."""
    pandas, numpy = sys.modules["pandas"], sys.modules["numpy"]
    dtype: Any = value.dtype
    if getattr(value, "nbytes", 0) > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT)
    head = text(type(value).__name__), text(repr(dtype)), text(str(dtype))
    if isinstance(dtype, pandas.CategoricalDtype):
        members = [value.categories, value.codes, value.ordered]
    elif isinstance(dtype, numpy.dtype) and dtype.kind not in "mM":
        members = [value.to_numpy()]
    elif type(value).__name__.startswith("Arrow"):
        members = [value.__arrow_array__()]
    elif hasattr(value, "asi8"):
        members = [value.asi8, getattr(value, "freqstr", None)]
    elif isinstance(dtype, pandas.IntervalDtype):
        members = [value.left, value.right, value.closed]
    elif hasattr(dtype, "numpy_dtype") and hasattr(value, "_mask"):
        plain = value.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.type(0))
        members = [plain, value.isna()]
    else:
        members = [list(value)]
    return tagged(b"ext", *head, *encoder.encode_all(members))


def _timestamp(encoder: Encoder, value: Any) -> bytes:
    parts = (type(value), value.asm8, getattr(value, "tzinfo", None))
    fold = getattr(value, "fold", 0)
    return tagged(b"stamp", *encoder.encode_all((*parts, fold)))


def _singleton(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"one", encoder.of_type(type(value)))


# Arrow


def _arrow_array(encoder: Encoder, value: Any) -> bytes:
    if value.nbytes > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT)
    encoder.count(value.nbytes)
    chunks = getattr(value, "chunks", None)
    if chunks is not None:
        arrow: Any = sys.modules["pyarrow"]
        whole = arrow.concat_arrays(chunks) if chunks else arrow.array([], value.type)
    else:
        whole = value
    parts = text(display(type(value))), _arrow_type(value.type)
    return tagged(b"arrow", *parts, *_arrow_content(encoder, whole))


def _arrow_content(encoder: Encoder, value: Any) -> list[bytes]:
    """Encode the members of an Arrow array by value, wherever they lie."""
    arrow: Any = sys.modules["pyarrow"]
    kind = value.type
    of_type = arrow.types
    valid = binary(value.is_valid().to_numpy(zero_copy_only=False).tobytes())
    if of_type.is_struct(kind):
        inner = [_arrow_content(encoder, member) for member in value.flatten()]
        return [valid, *(found for content in inner for found in content)]
    if of_type.is_list(kind) or of_type.is_large_list(kind):
        compute = import_module("pyarrow.compute")
        lengths = compute.list_value_length(value).to_pylist()
        content = _arrow_content(encoder, value.flatten())
        return [valid, encoder.encode(lengths), *content]
    if isinstance(value, arrow.ExtensionArray):
        return _arrow_content(encoder, value.storage)
    if of_type.is_dictionary(kind):
        return [valid, *_arrow_content(encoder, value.dictionary_decode())]
    width = kind.bit_width if of_type.is_primitive(kind) else 0
    if width >= 8:
        numbers = value.view(f"uint{width}")
        filled = numbers.fill_null(0).to_numpy(zero_copy_only=False)
        return [valid, binary(filled.tobytes())]
    return [valid, encoder.encode(value.to_pylist())]


def _arrow_type(kind: Any) -> bytes:
    parts = [text(str(kind)), text(repr(kind))]
    for place in range(kind.num_fields):
        parts.append(_arrow_field(kind.field(place)))
    return tagged(b"arrowtype", *parts)


def _arrow_field(field: Any) -> bytes:
    metadata = repr(sorted((field.metadata or {}).items()))
    null = text(str(field.nullable))
    return tagged(
        b"field", text(field.name), null, text(metadata), _arrow_type(field.type)
    )


def _arrow_schema(_: Encoder, value: Any) -> bytes:
    metadata = repr(sorted((value.metadata or {}).items()))
    return tagged(b"schema", text(metadata), *(_arrow_field(f) for f in value))


def _arrow_table(encoder: Encoder, value: Any) -> bytes:
    if value.nbytes > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT)
    kind = text(display(type(value)))
    rows = encoder.encode(value.num_rows)
    columns = [_arrow_array(encoder, column) for column in value.columns]
    return tagged(b"table", kind, rows, _arrow_schema(encoder, value.schema), *columns)


def _arrow_filesystem(encoder: Encoder, value: Any) -> bytes:
    if value.type_name == "local":
        return tagged(b"local")
    return encoder.refuse(value)  # its state has credentials in it


def _arrow_buffer(encoder: Encoder, value: Any) -> bytes:
    return tagged(b"buffer", encoder.encode(memoryview(value)))


def _arrow_scalar(encoder: Encoder, value: Any) -> bytes:
    arrow: Any = sys.modules["pyarrow"]
    return tagged(b"arrow1", _arrow_array(encoder, arrow.array([value], value.type)))


HANDLERS: dict[str, Handler] = {
    "numpy.ndarray": _ndarray,
    "numpy.ma.MaskedArray": _masked,
    "numpy.ma.core.MaskedArray": _masked,
    "numpy.memmap": _memmap,
    "numpy.generic": _scalar,
    "numpy.dtype": _dtype,
    "numpy.ufunc": _ufunc,
    "numpy._ArrayFunctionDispatcher": _dispatcher,
    "numpy.random._generator.Generator": _generator,
    "pandas.DataFrame": _frame,
    "pandas.core.frame.DataFrame": _frame,
    "pandas.Series": _series,
    "pandas.core.series.Series": _series,
    "pandas.Index": _index,
    "pandas.core.indexes.base.Index": _index,
    "pandas.MultiIndex": _multi_index,
    "pandas.core.indexes.multi.MultiIndex": _multi_index,
    "pandas.RangeIndex": _range_index,
    "pandas.core.indexes.range.RangeIndex": _range_index,
    "pandas.api.extensions.ExtensionArray": _extension,
    "pandas.core.arrays.base.ExtensionArray": _extension,
    "pandas._libs.tslibs.nattype._NaT": _singleton,
    "pandas._libs.missing.C_NAType": _singleton,
    "pandas._libs.tslibs.timestamps._Timestamp": _timestamp,
    "pandas._libs.tslibs.timedeltas._Timedelta": _timestamp,
    "pyarrow._fs.FileSystem": _arrow_filesystem,
    "pyarrow.lib.Array": _arrow_array,
    "pyarrow.lib.ChunkedArray": _arrow_array,
    "pyarrow.lib.Buffer": _arrow_buffer,
    "pyarrow.lib.Scalar": _arrow_scalar,
    "pyarrow.lib.Schema": _arrow_schema,
    "pyarrow.lib.Field": lambda _, value: _arrow_field(value),
    "pyarrow.lib.DataType": lambda _, value: _arrow_type(value),
    "pyarrow.lib.Table": _arrow_table,
    "pyarrow.lib.RecordBatch": _arrow_table,
}
