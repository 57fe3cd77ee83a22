"""Fingerprints: digests of what the partitions of a collection are computed from.

A Merkle hash over each partition's own part of the graph: names and arguments of the
functions that are called, not the keys of the tasks, which may be random.
"""

from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Any

import dask

from agatha_ckpt._dask import calls
from agatha_ckpt._dask.canonical import libraries, plain
from agatha_ckpt._dask.canonical.callables import Names
from agatha_ckpt._dask.canonical.encoder import Encoder, tagged, text
from agatha_ckpt._dask.graph import Functions, Graph, Steps, handlers_of, opened

SCHEME = "1"
"""Of how fingerprints are made; those of another scheme are not comparable."""

_LONGEST_CODE = 2_000  # characters
_EARLY = (
    16  # partitions; where more are known, the walk goes to the end of the collection
)

_HANDLERS = plain.HANDLERS | libraries.HANDLERS | calls.HANDLERS
_SCALARS = tuple(plain.SCALARS.values())


@dataclass(frozen=True)
class Fingerprints:
    """What the partitions of a collection are computed from.

    Attributes
    ----------
    partitions : tuple of str
        32 hexadecimal digits for each partition.
    codes : tuple of str
        The functions that compute each partition, in alphabetical order, with digests
        of their code: ``"step=<8 digits>;step=<8 digits>"``.
    opaque : tuple of str
        What was not looked into, for messages: ``"argument 'nlp' of 'parse', a
        spacy.Language"``.
    """

    partitions: tuple[str, ...]
    codes: tuple[str, ...]
    opaque: tuple[str, ...]


def fingerprints_of(
    collection: Any, *, version: str | None, format: str
) -> Fingerprints:
    """Return the fingerprints of the partitions of a collection of dask.

    Parameters
    ----------
    collection : dask collection
        A bag, a frame, an array (by block) or a delayed value.
    version : str, optional
        Version label of the checkpoint.
    format : str
        Name of the format that the partitions are stored in.

    Raises
    ------
    CheckpointError
        The graph refers to a task that it does not hold, or in a circle.
    """
    tasks, keys = opened(collection)
    try:
        return _fingerprints(tasks, keys, version, format)
    except RecursionError:
        # The caller has used up the stack; that of a new thread is empty.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_fingerprints, tasks, keys, version, format).result()


def _fingerprints(
    tasks: Mapping[Hashable, Any],
    keys: Sequence[Hashable],
    version: str | None,
    format: str,
) -> Fingerprints:
    ambiguous: frozenset[str] = frozenset()
    while True:
        names = Names(ambiguous)
        encoder, found = _walk(tasks, keys, names)
        if not names.clashes:
            break
        ambiguous |= names.clashes
    parts = *map(text, (SCHEME, dask.__version__, format)), encoder.encode(version)
    head = tagged(b"partition", *parts)
    return Fingerprints(
        tuple(blake2b(head + d, digest_size=16).hexdigest() for d, _ in found),
        tuple(map(cache(code_of), (steps for _, steps in found))),
        tuple(dict.fromkeys(encoder.opaque)),
    )


def _walk(
    tasks: Mapping[Hashable, Any], keys: Sequence[Hashable], names: Names
) -> tuple[Encoder, list[tuple[bytes, Steps]]]:
    """Return the digest of each key and the steps that lead to it.

    The walk ends early where two functions of one name are met, as each name then
    counts in another way.
    """
    handlers = {**_HANDLERS, **names.handlers()}
    functions = Functions(Encoder(handlers, _SCALARS), calls.special_of)
    handlers.update(handlers_of(functions))
    graph = Graph(tasks, functions)
    found = []
    for number, key in enumerate(keys):
        found.append(graph.digest(key))
        if names.clashes and number < _EARLY:
            break
    return functions.encoder, found


def code_of(steps: Steps) -> str:
    """Return steps as they are stored: in order, whole entries, no more than fit."""
    shown = sorted(steps)
    while len(code := ";".join(shown)) > _LONGEST_CODE:
        shown.pop()
    return code
