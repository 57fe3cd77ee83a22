"""Random values of every type that the codec takes, and of types close to these.

    python -m tests.format.mixed_values --count 1000000 --seed 1

Each value is stored and loaded alone, and those that were stored once more in files of
some hundred. It prints how many came back equal in value, type and attributes, and how
many were refused by an `EncodeError`; anything else ends it.
"""

import argparse
import enum
import random
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import msgpack
import numpy as np

from agatha_ckpt import EncodeError
from tests.format.memory_file import decode, encode
from tests.format.values import ZONES, assert_same, round_trip

FILE = 300  # values


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Flags(enum.IntFlag):
    X = 1


Pair = namedtuple("Pair", "a b")
SUBCLASSES = [
    type(f"My{cls.__name__}", (cls,), {"__module__": __name__})
    for cls in (str, int, float, bytes, list, dict, tuple, set, frozenset, deque)
]
globals().update({cls.__name__: cls for cls in SUBCLASSES})
NUMPY_CODES = [*"?bBhHiIlLqQefdgFDG", "S", "S3", "U", "U3", "V", "V3", "O"]
NUMPY_CODES += ["M8[s]", "M8[25us]", "m8[D]", "M8[ns]", "m8[3W]"]


def any_float(rng):
    special = 0.0, -0.0, 1e308, 5e-324, float("inf"), float("nan")
    bits = struct.unpack("<d", rng.randbytes(8))[0]
    return rng.choice([*special, rng.random(), bits, bits])


def any_int(rng):
    bits = rng.choice([1, 7, 8, 15, 31, 32, 33, 63, 64, 65, 200])
    return rng.choice([1, -1]) * (rng.getrandbits(bits) + rng.choice([0, 1]))


def any_text(rng):
    alphabet = rng.choice(["ab\0", "aäह😀", "\ud800\udfffa", "\n\r\u2028 "])
    length = rng.choice(
        [0, 1, 3, 31, 32, 255, 256, 70_000] if rng.random() < 0.05 else [3]
    )
    return "".join(rng.choices(alphabet, k=length))


def any_bytes(rng):
    return rng.randbytes(rng.choice([0, 1, 5, 255, 256] if rng.random() < 0.1 else [4]))


def any_zone(rng):
    offset = timedelta(microseconds=rng.randint(-86_399_999_999, 86_399_999_999))
    made = [None, UTC, timezone(offset), timezone(offset, any_text(rng))]
    made += map(ZoneInfo, ZONES)
    if rng.random() < 0.02:
        made = [ZoneInfo.no_cache(key) for key in ZONES] or made
    return rng.choice(made)


def any_datetime(rng):
    day = date.fromordinal(rng.randint(1, date.max.toordinal()))
    clock = rng.randrange(24), rng.randrange(60), rng.randrange(60)
    clock = time(*clock, rng.randrange(10**6), any_zone(rng), fold=rng.randrange(2))
    return rng.choice([day, clock, datetime.combine(day, clock)])


def any_number(rng):
    digits = str(rng.randrange(10**6))
    decimals = "-0", "0E+3", "sNaN12", "-NaN", "Infinity", f"{digits}E-{digits[:3]}"
    made = [Decimal(rng.choice(decimals)), complex(any_float(rng), any_float(rng))]
    made += [Fraction(any_int(rng), abs(any_int(rng)) + 1), rng.random() < 0.5]
    return rng.choice(made)


def any_path(rng):
    cls = rng.choice([Path, PurePosixPath, PureWindowsPath])
    return cls("".join(rng.choices(["a", "/", "\\", ".", "c:", " ", "ä"], k=5)))


def any_other(rng):
    uuid = UUID(bytes=rng.randbytes(16), is_safe=rng.choice(list(SafeUUID)))
    code, stamp = rng.randrange(128), msgpack.Timestamp(any_int(rng) % 2**33, 5)
    days = timedelta(rng.randint(-9_999, 9_999), rng.random() * 86_400)
    return rng.choice([uuid, msgpack.ExtType(code, any_bytes(rng)), stamp, days, None])


def any_enum(rng):
    return rng.choice([Colour.RED, Number.ONE, Word.A, Flags.X, Pair(1, "a")])


def any_subclass(rng):
    cls = rng.choice(SUBCLASSES)
    full = {dict: {"a": 1}, bytes: b"a"}.get(cls.__base__, "1")
    return rng.choice([cls(), cls(full)])


LEAVES = [any_float, any_int, any_text, any_bytes, any_datetime, any_number, any_path]
LEAVES += [any_other, any_zone]


def any_dtype(rng, depth=0):
    if depth < 2 and rng.random() < 0.3:
        names = rng.sample(["a", "b", "ä", "d e"], rng.randrange(1, 4))
        fields = [(name, any_dtype(rng, depth + 1)) for name in names]
        if rng.random() < 0.2:
            fields = [(("title " + name, name), dtype) for name, dtype in fields]
        dtype = np.dtype(fields, align=rng.random() < 0.4)
        return np.dtype((np.record, dtype)) if rng.random() < 0.1 else dtype
    dtype = np.dtype(rng.choice(NUMPY_CODES))
    dtype = dtype.newbyteorder() if rng.random() < 0.2 else dtype
    if rng.random() < 0.02:
        dtype = np.dtype(dtype, metadata={"unit": "m"})
    is_array = depth and dtype.itemsize and rng.random() < 0.1
    return np.dtype((dtype, (2,))) if is_array else dtype


def any_array(rng):
    dtype = any_dtype(rng)
    shape = tuple(rng.randrange(4) for _ in range(rng.choice([0, 1, 1, 2, 2, 3])))
    array = np.zeros(shape, dtype)
    # Not all bytes are a letter or a bool.
    if array.nbytes and not any(part in str(dtype) for part in "UO?b"):
        array = np.frombuffer(rng.randbytes(array.nbytes), array.dtype).reshape(shape)
    array = array.copy(rng.choice("CF"))
    array = rng.choice([array, array, array.T, array[::-1] if shape else array])
    return array[(0,) * array.ndim] if array.size and rng.random() < 0.3 else array


def any_value(rng, depth=0):
    chance = rng.random()
    if depth < 4 and chance < (0.5 if depth else 0.35):
        return any_container(rng, depth)
    if chance > 0.97:
        return rng.choice([any_enum, any_subclass])(rng)
    if chance > 0.85:
        return any_array(rng)
    if chance > 0.82:
        return bytearray(any_bytes(rng))
    return rng.choice(LEAVES)(rng)


def any_hashable(rng, depth):
    if depth < 4 and rng.random() < 0.3:
        members = [any_hashable(rng, depth + 1) for _ in range(rng.randrange(4))]
        return rng.choice([tuple, frozenset])(members)
    while True:
        value = rng.choice(LEAVES)(rng)
        if type(value) is not Decimal or not value.is_snan():
            return value


def any_container(rng, depth):
    count = rng.randrange(5)
    members = [any_value(rng, depth + 1) for _ in range(count)]
    keys = [any_hashable(rng, depth + 1) for _ in range(count)]
    pairs = dict(zip(keys, members, strict=True))
    maker = rng.randrange(9)
    if maker == 0:
        return deque(members, rng.choice([None, 2, 9]))
    if maker == 1:
        if rng.random() < 0.1:  # a pickle keeps what pickle keeps: no arrays in it
            return defaultdict(list, {rng.choice(LEAVES[:4])(rng): [bytearray(b"a")]})
        return defaultdict(None, pairs)
    if maker == 2:
        return rng.choice([set, frozenset])(keys)
    if maker == 3:
        return Counter({key: rng.choice([1, -2, 2.5, None]) for key in keys})
    if maker == 4:
        return OrderedDict(pairs)
    return rng.choice([list, tuple, lambda _: pairs])(members)


def check(count, seed):
    """Return how many of *count* values came back equal, and how many were refused."""
    rng, kept, refused = random.Random(seed), 0, 0
    stored = []
    for number in range(count):
        value, allow = any_value(rng), rng.random() < 0.3
        try:
            found = round_trip([value], allow)
        except EncodeError:
            refused += 1
            continue
        try:
            assert_same(found, [value])
        except BaseException as error:
            error.add_note(f"value {number} of seed {seed}: {value!r}")
            raise
        kept += 1
        stored.append(value)
        if len(stored) == FILE or number == count - 1:
            compression = rng.choice([None, "zstd"])
            file, info = encode(stored, compression=compression, allow_pickle=True)
            assert_same(decode(file, info, allow_pickle=True), stored)
            stored.clear()
    return kept, refused


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    kept, refused = check(arguments.count, arguments.seed)
    print(f"{kept:,} came back equal, {refused:,} were refused")


if __name__ == "__main__":
    main()
