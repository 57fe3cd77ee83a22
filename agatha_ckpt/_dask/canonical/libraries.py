"""Canonical encoding of values of the standard library and of fsspec.

A filesystem counts by protocol and endpoint, not by credentials or tuning.
"""

import gc
import inspect
import os
import re
import types
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
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
from agatha_ckpt._dask.canonical.objects import attributes


def _parts(tag: bytes, cls: Any, *names: str) -> Handler:
    """Return what encodes a value by its type and some attributes of *cls*."""
    attributes = [getattr(cls, name) for name in names]

    def encode(encoder: Encoder, value: Any) -> bytes:
        parts = [encoder.encode(attribute.__get__(value)) for attribute in attributes]
        return tagged(tag, encoder.of_type(type(value)), *parts)

    return encode


# The standard library


def _path(encoder: Encoder, value: Any) -> bytes:
    parts = encoder.of_type(type(value)), text(PurePath.__str__(value))
    return tagged(b"path", *parts, encoder.encode(attributes(value)))


def _upath(encoder: Encoder, value: Any) -> bytes:
    parts = (type(value), str(value), public_options(value.storage_options))
    return tagged(b"upath", *encoder.encode_all(parts))


def _enum(encoder: Encoder, value: Any) -> bytes:
    kind = encoder.of_type(type(value))
    name = encoder.encode(value._name_)
    return tagged(b"enum", kind, name, encoder.encode(value._value_))


def _timezone(encoder: Encoder, value: Any) -> bytes:
    parts = encoder.encode_all((value.utcoffset(None), value.tzname(None)))
    return tagged(b"timezone", *parts)


def _zone(encoder: Encoder, value: Any) -> bytes:
    if not value.key:
        return encoder.refuse(value)
    return tagged(b"zone", text(value.key))


def _exception(encoder: Encoder, value: Any) -> bytes:
    reduces = (vars(base).get("__reduce__") for base in type(value).__mro__)
    in_c = next(m for m in reduces if isinstance(m, types.MethodDescriptorType))
    _, *state = in_c(value)  # args, and what else some exceptions have
    return tagged(
        b"exception", encoder.of_type(type(value)), *encoder.encode_all(state)
    )


def _decimal(_: Encoder, value: Any) -> bytes:
    return tagged(b"decimal", text(Decimal.__str__(value)))


def _array(encoder: Encoder, value: Any) -> bytes:
    with memoryview(value) as view:
        if view.nbytes > encoder.limit:
            return encoder.refuse(value, ABOVE_LIMIT)
        encoder.count(view.nbytes)
        return tagged(b"array", text(view.format), binary(view))


def _memoryview(encoder: Encoder, value: Any) -> bytes:
    if value.nbytes > encoder.limit:
        return encoder.refuse(value, ABOVE_LIMIT)
    shape = encoder.encode(value.shape)
    return tagged(b"view", text(value.format), shape, binary(value.tobytes()))


def _proxy(encoder: Encoder, value: Any) -> bytes:
    (mapping,) = gc.get_referents(value)  # calls nothing of the mapping's own
    return tagged(b"proxy", encoder.encode(mapping))


def _view(encoder: Encoder, value: Any) -> bytes:
    parts = encoder.encode_all(list(value))
    return tagged(b"V", encoder.of_type(type(value)), *parts)


def _defaultdict(encoder: Encoder, value: Any) -> bytes:
    items = encoder.encode(dict(dict.items(value)))
    return tagged(b"dd", encoder.encode(value.default_factory), items)


# fsspec

_SECRET = re.compile(
    "anon|auth|cert|connection|cookie|cred|key|passw|private|profile|sas|secret|session|sign|"
    "token|user",
    re.IGNORECASE,
)
# Options of a filesystem that decide how it is read, not what.
_TUNING = re.compile(
    "(asynchronous|auto_mkdir|batch_size|block_?size|cache_\\w+|check_files|"
    "config_kwargs|consistency|default_(block_size|cache_type|fill_cache)|expand_env|"
    "fixed_upload_size|listings_expiry_time|loop|max_(concurrency|paths)|"
    "requester_pays|retries|(.*_)?timeout|skip_instance_cache|use_(listings_cache|ssl)|"
    "verify_uploads|version_aware)"
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
    elif account := getattr(value, "account_name", None):
        options["account"] = account
    parts = encoder.encode_all((names, options))
    return tagged(b"fs", encoder.of_type(type(value)), *parts)


def _open_file(encoder: Encoder, value: Any) -> bytes:
    parts = (value.fs, value.path, value.mode, value.compression)
    rest = (value.encoding, value.errors, value.newline)
    return tagged(b"file", *encoder.encode_all((*parts, *rest)))


_DATE = "year", "month", "day"
_TIME = "hour", "minute", "second", "microsecond", "fold", "tzinfo"
_ALIAS = "__origin__", "__args__"
_SPAN = "days", "seconds", "microseconds"

HANDLERS: dict[str, Handler] = {
    "builtins.BaseException": _exception,
    "builtins.range": _parts(b"range", range, "start", "stop", "step"),
    "builtins.slice": _parts(b"slice", slice, "start", "stop", "step"),
    "builtins.memoryview": _memoryview,
    "builtins.mappingproxy": _proxy,
    "builtins.dict_keys": _view,
    "builtins.dict_values": _view,
    "builtins.dict_items": _view,
    "types.UnionType": _parts(b"union", types.UnionType, "__args__"),
    "types.GenericAlias": _parts(b"alias", types.GenericAlias, *_ALIAS),
    "array.array": _array,
    "collections.defaultdict": _defaultdict,
    "datetime.date": _parts(b"date", date, *_DATE),
    "datetime.datetime": _parts(b"datetime", datetime, *_DATE, *_TIME),
    "datetime.time": _parts(b"time", time, *_TIME),
    "datetime.timedelta": _parts(b"span", timedelta, *_SPAN),
    "datetime.timezone": _timezone,
    "decimal.Decimal": _decimal,
    "enum.Enum": _enum,
    "pathlib.PurePath": _path,
    "pathlib._local.PurePath": _path,
    "re.Pattern": _parts(b"regex", re.Pattern, "pattern", "flags"),
    "upath.core.UPath": _upath,
    "zoneinfo.ZoneInfo": _zone,
    "fsspec.spec.AbstractFileSystem": _filesystem,
    "fsspec.core.OpenFile": _open_file,
}
