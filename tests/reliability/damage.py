"""Damaged and hostile files, and a judge of what comes of hostile checkpoints.

    python -m tests.reliability.damage FIRST STEP

judges each hostile case whose number is FIRST, FIRST + STEP, ..., and prints a line of
JSON before and after it. A case that computes for more than `SECONDS` ends the process,
and one that takes too much memory is its last. test_damage runs it.
"""

import faulthandler
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import zlib
import zoneinfo
from functools import partial
from pathlib import Path

import cloudpickle
import dask
import dask.bag
import msgpack
import numpy as np

from agatha_ckpt import (
    Checkpointer,
    CheckpointError,
    CheckpointStore,
    CorruptCheckpointError,
)
from tests.format import hostile
from tests.format.specification import (
    array_block,
    block,
    canonical,
    content_digest,
    filename,
    footer,
    header,
    manifest_body,
    partition_file,
    sealed,
    sha256,
)
from tests.format.values import CreatesFile
from tests.reliability.peak_memory import high_water_mark

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MB = 1_000_000
PEAK_BYTES = 256 * MB
SECONDS = 10  # of the processor: others may use the machine as well
HEADER_BYTES, BLOCK_BYTES, FOOTER_BYTES = 39, 17, 59
RECORDS = [["one", 1], ["two", 2]]  # of the two partitions of a hostile checkpoint

# ---- accidents ----


def flips(data):
    """Yield *data* with each of its bits changed."""
    for position, byte in enumerate(data):
        before, after = data[:position], data[position + 1 :]
        for bit in range(8):
            yield before + bytes([byte ^ 1 << bit]) + after


def truncations(data):
    """Yield each beginning of *data*."""
    for length in range(len(data)):
        yield data[:length]


def additions(data):
    """Yield *data* with bytes before, after and in the middle."""
    middle = len(data) // 2
    for more in (b"\0", b"\n", b" ", b"x\n", bytes(1000), data, data[-FOOTER_BYTES:]):
        yield from (data + more, more + data, data[:middle] + more + data[middle:])


def edited(data, rng):
    """Return *data* after one to four random edits."""
    for _ in range(rng.randint(1, 4)):
        at, much = rng.randrange(len(data) + 1), rng.randrange(40)
        new = rng.randbytes(rng.randint(1, 12))
        match rng.choice(("overwrite", "insert", "delete", "repeat", "swap", "cut")):
            case "overwrite":
                data = data[:at] + new + data[at + len(new) :]
            case "insert":
                data = data[:at] + new + data[at:]
            case "delete":
                data = data[:at] + data[at + much :]
            case "repeat":
                data = data[: at + much] + data[at:]
            case "swap":
                left, right = data[at : at + much], data[at + much : at + 2 * much]
                data = data[:at] + right + left + data[at + 2 * much :]
            case "cut":
                data = data[:at]
    return data


# ---- files whose checksums are right ----


def compressed_file(blocks, index, npartitions):
    """Return a compressed file of *blocks*, which are (flags, records, payload)."""
    stored = [(*b, zstd.compress(b[2], 1)) for b in blocks]
    data = header(index, npartitions, compression=1) + b"".join(
        block(flags, count, frame, length=len(payload))
        for flags, count, payload, frame in stored
    )
    records = sum(count for _, count, _ in blocks)
    size, digest = len(data) + FOOTER_BYTES, content_digest(blocks)
    return data + footer(records, len(blocks), size, 0.0, False, digest)


def bomb(count, head, unit, times, *, lies_by=0):
    """Return a small file of one block, and the digest of its decompressed content.

    The block is *head* and *times* megabytes of the byte *unit*; it states *lies_by*
    bytes less.
    """
    compressor, chunk, crc = zstd.ZstdCompressor(level=1), unit * MB, zlib.crc32(head)
    frame = compressor.compress(head)
    for _ in range(times):
        frame += compressor.compress(chunk)
        crc = zlib.crc32(chunk, crc)
    frame += compressor.flush()
    length = len(head) + times * MB - lies_by
    digest = hashlib.sha256(struct.pack("<BIII", 0, count, length, crc)).digest()[:16]
    data = header(0, 2, compression=1) + block(0, count, frame, length=length)
    size = len(data) + FOOTER_BYTES
    return data + footer(count, 1, size, 0.0, False, digest), count, digest


def blocks_of(data):
    """Return whether a file is compressed, and its blocks; None if it is not a file."""
    at = HEADER_BYTES
    if len(data) < at + FOOTER_BYTES:
        return None
    compressed = data[10] == 1
    end = len(data) - FOOTER_BYTES - int.from_bytes(data[-6:-4], "little")
    blocks = []
    while at + BLOCK_BYTES <= end:
        flags, count, _, stored = struct.unpack_from("<BIII", data, at)
        payload = data[at + BLOCK_BYTES : at + BLOCK_BYTES + stored]
        if compressed:
            try:
                payload = zstd.ZstdDecompressor().decompress(payload, 1 << 20)
            except zstd.ZstdError:
                return None
        blocks.append((flags, count, payload))
        at += BLOCK_BYTES + stored
    return compressed, blocks


def checkpoint_files(first=None, *, body=None, plan=None, **columns):
    """Return the files of a checkpoint of two partitions, the first of them hostile.

    Parameters
    ----------
    first : (data, records, digest), optional
        The file of partition 0, and its entry in the manifest.
    body : callable, optional
        Returns the JSON of the manifest from its body.
    plan : dict, optional
        Members of the plan.
    **columns
        Columns of the manifest.
    """
    parts = [_honest(0) if first is None else first, _honest(1)]
    names = [filename(index) for index in range(2)]
    digests, counts = [p[2].hex() for p in parts], [p[1] for p in parts]
    document = manifest_body(names, digests, counts, [len(p[0]) for p in parts])
    document["plan"] |= plan or {}
    document["partitions"] |= columns
    content = ["msgpack", document["partitions"]["digest"]]
    document["id"] = sha256(canonical(content), 32)
    data = json.dumps(document).encode() if body is None else body(document)
    files = dict(zip(names, (p[0] for p in parts), strict=True))
    return files | {"__done__": sealed(data)}


def _honest(index):
    blocks = [array_block([RECORDS[index]])]
    return partition_file(blocks, index, 2), 1, content_digest(blocks)


def hostile_block(flags, count, payload, compress=False):
    """Return the file of one block as `checkpoint_files` takes it."""
    blocks = [(flags, count, payload)]
    make = compressed_file if compress else partition_file
    return make(blocks, 0, 2), count, content_digest(blocks)


# ---- hostile blocks: flags, stated records, payload ----

TUPLE, SET, FROZENSET, DEQUE, ZONE = (
    bytes([0xC7, 0, code]) for code in (0x9C, 0x9B, 0x9A, 0x97, 0x90)
)


def extension(code, payload):
    return b"\xc9" + struct.pack(">Ib", len(payload), code) + payload


def _nested(head, depth):
    return b"\x91" + head * depth + b"\0" * 60_000


_65_000 = struct.pack(">I", 65_000)
BLOCKS = {name: (1, 1, payload) for name, payload in hostile.PAYLOADS.items()} | {
    "a pickle without permission": (
        *(1, 1),
        b"\x91" + extension(-70, b"cos\nsystem\n(S'true'\ntR."),
    ),
    "a decimal of a huge exponent": (1, 1, b"\x91" + extension(-52, b"1E+999999999")),
    "a big int without bytes": (1, 1, b"\x91" + extension(-50, b"")),
    "a zone by an absolute path": (1, 1, b"\x91\x92" + ZONE + b"\xab/etc/passwd"),
    "a zone that is a folder": (1, 1, b"\x91\x92" + ZONE + b"\xa6Europe"),
    "a deque of a length beyond 64 bits": (
        *(1, 1),
        b"\x91\x92" + DEQUE + b"\xcf" + b"\xff" * 8,
    ),
    "a dtype that nests": (
        *(1, 1),
        hostile.array(msgpack.unpackb(b"\x92\xa4list" * 400 + b"\xc0"), [1], b"12345"),
    ),
    "a dtype of 16,000 fields": (1, 1, hostile.array("i1," * 16_000, [1], b"1")),
    "a marker among the records": (1, 2, b"\x92\x01" + TUPLE),
    "a marker that is a key": (1, 1, b"\x91\x81" + TUPLE + b"\x01"),
    "text for the records": (0, 2, b"\xa2ab"),
    "unknown flags": (240, 1, b"\x91\x01"),
    "fewer records than stated": (0, 5, b"\x92\x01\x02"),
    "2**32 - 1 records stated": (0, 2**32 - 1, b"\x92\x01\x02"),
    "an empty payload": (0, 0, b""),
    "a flag for a pickle without one": (2, 1, b"\x91\x01"),
    "tuples that state 65,000 members each": (4, 1, _nested(b"\xdd" + _65_000, 1_000)),
    "lists that state 65,000 members each": (0, 1, _nested(b"\xdd" + _65_000, 1_020)),
    "text that states 65,000 letters each": (0, 1, b"\x91\xda\xfd\xe8" * 5),
    "100,000 nested lists": (0, 1, b"\x91" * 100_000 + b"\x01"),
    "100,000 nested maps": (0, 1, b"\x91" + b"\x81\x01" * 100_000 + b"\x01"),
    "9,000 nested tuples in a set": (
        *(1, 1),
        b"\x91\x92" + SET + (b"\x92" + TUPLE) * 9_000 + b"\x01",
    ),
    "9,000 nested frozensets": (1, 1, b"\x91" + (b"\x92" + FROZENSET) * 9_000 + b"\1"),
    "9,000 nested keys": (4, 1, b"\x91\x81" + b"\x91" * 9_000 + b"\x01\x01"),
    "300,000 empty maps": (
        *(0, 300_000),
        b"\xdd" + struct.pack(">I", 300_000) + b"\x80" * 300_000,
    ),
}

# ---- hostile manifests ----

ANYTHING = (
    *(None, True, -1, 0.0, 2.0, 1e999, float("nan"), 2**63, 2**70, 10**400),
    *("", "2", "../x", "\ud800", "\0", [], {}, [[]], {"a": 1}, "x" * 100_000),
)


def _as_json(change, body):
    changed = change(body)
    return json.dumps(body if changed is None else changed).encode()


def _put(key, value, body):
    body[key] = value


def _drop(key, body):
    del body[key]


def _put_plan(key, value, body):
    body["plan"][key] = value


def _text(old, new, body):
    text = json.dumps(body)
    assert old in text
    return text.replace(old, new, 1).encode()


def _manifests():
    """Yield name and files of each checkpoint with a hostile manifest."""
    usual = json.loads(checkpoint_files()["__done__"])["checkpoint"]
    columns = usual["partitions"]
    for value in ANYTHING:
        shown = repr(value)[:20]
        for member in usual:
            change = partial(_as_json, partial(_put, member, value))
            yield f"{member} {shown}", checkpoint_files(body=change)
        for member in usual["plan"]:
            change = partial(_as_json, partial(_put_plan, member, value))
            yield f"plan {member} {shown}", checkpoint_files(body=change)
        for column in columns:
            made = checkpoint_files(**{column: [value, columns[column][1]]})
            yield f"{column} {shown} and as it was", made
            yield f"column {column} {shown}", checkpoint_files(**{column: value})
    for member in usual:
        change = partial(_as_json, partial(_drop, member))
        yield f"without {member}", checkpoint_files(body=change)
    yield from _odd_manifests(columns)


def _odd_manifests(columns):
    for name, changed in {
        "records and bytes beyond memory": {
            column: [2**62, columns[column][1]] for column in ("records", "bytes")
        },
        "records and bytes of a terabyte": {
            column: [2**40, columns[column][1]] for column in ("records", "bytes")
        },
        "other counts": {"records": [7, 1]},
        "no counts": {"records": [0, 0]},
        "digests not given": {"digest": ["", ""]},
        "digests swapped": {"digest": columns["digest"][::-1]},
        "files swapped": {"file": columns["file"][::-1]},
        "one file twice": {"file": columns["file"][:1] * 2},
    }.items():
        yield name, checkpoint_files(**changed)
    for name, (old, new) in {
        "a key twice": ('"token"', '"token": 5, "token"'),
        "all partitions twice": ('"partitions"', '"partitions": {}, "partitions"'),
        "100,000 nested lists": ('"token"', f'"more": {"[" * 10**5}, "token"'),
        "900 nested lists": ('"token"', f'"more": {"[" * 900 + "]" * 900}, "token"'),
        "a list of a million": ('"token"', f'"more": [{"0," * 10**6}0], "token"'),
        "a number of 5,000 digits": ('"token"', f'"more": {"9" * 5_000}, "token"'),
        "a version of a million letters": ("null", f'"{"x" * 10**6}"'),
        "trailing text": ('"token"', '"token": 1} {"token"'),
        "trailing seal": ('"token"', '"more": "\\",\\"seal\\":\\"", "token"'),
        "a path upwards": ("part-", "../part-"),
        "an absolute path": ("part-", "/etc/part-"),
        "a URL": ("part-", "file:///part-"),
        "a file name with a nul": (".msgpack", ".msgpack\\u0000"),
        "a text file": (".msgpack", ".txt"),
    }.items():
        yield name, checkpoint_files(body=partial(_text, old, new))
    for name, make in {
        "in UTF-16": lambda body: json.dumps(body).encode("utf-16"),
        "with a byte order mark": lambda body: b"\xef\xbb\xbf" + canonical(body),
        "not UTF-8": lambda body: canonical(body).replace(b"0.0", b"\xff", 1),
        "with a nul": lambda body: canonical(body) + b"\0",
        "of nothing": lambda body: b"",
        "of a list": lambda body: b"[" + canonical(body) + b"]",
        "of a number": lambda body: b"1",
    }.items():
        yield f"a manifest {name}", checkpoint_files(body=make)
    for marker in (
        *(b"part-" + b"9" * 5_000 + b".pkl\n", b"part-0.pkl\n" * 100_000),
        *(
            b"/etc/passwd\n../../part-0.pkl\n",
            b"part-0.txt\n",
            b"\xff\xfe",
            b"{}",
            b"{",
        ),
        *(b'{"manifest":{},"seal":""}\n', b'{"checkpoint":{},"seal":""}\n'),
    ):
        yield f"the marker {marker[:20]!r}", checkpoint_files() | {"__done__": marker}


# ---- hostile files ----


def _files(victim):
    """Yield name and files of each checkpoint with a hostile partition file."""
    for number, (name, made) in enumerate(BLOCKS.items()):
        yield name, checkpoint_files(hostile_block(*made, compress=number % 2 == 1))
    array_of = b"\xdd" + struct.pack(">I", 300 * MB)
    for name, made in {
        # What is stated truly is believed: one record may be that large.
        "a record of 20 MB of zeros from 1 kB": bomb(
            1, b"\x91\xc6" + struct.pack(">I", 20 * MB), b"\0", 20
        ),
        "300 MB of zeros that state 10": bomb(
            1, b"\x91\xc6" + struct.pack(">I", 300 * MB), b"\0", 300, lies_by=290 * MB
        ),
        "300 million nils from 10 kB": bomb(300 * MB, array_of, b"\xc0", 300),
        "20 MB that are not msgpack": bomb(1, b"\xc1", b"\xc1", 20),
    }.items():
        yield name, checkpoint_files(made)
    for seconds in (float("nan"), float("inf"), -1.0):
        blocks = [array_block([RECORDS[0]])]
        data = partition_file(blocks, 0, 2, seconds=seconds)
        files = checkpoint_files((data, 1, content_digest(blocks)))
        yield f"seconds {seconds} in the footer", files
        yield f"seconds {seconds} in a partial", _without_marker(files)
    code = partition_file([array_block([RECORDS[0]])], 0, 2, code=b"\xff" * 3_000)
    yield (
        "a code that is not UTF-8",
        _without_marker(checkpoint_files() | {filename(0): code}),
    )
    stated = hostile_block(0, 2**32 - 1, b"\x91\x01")
    yield "a partial of stated records", _without_marker(checkpoint_files(stated))
    pickled = cloudpickle.dumps(CreatesFile(victim))
    for flags in (1, 3):
        first = hostile_block(flags, 1, b"\x91" + extension(-70, pickled))
        yield f"a pickle under the flags {flags}", checkpoint_files(first)
    agatha = {"part-0.pkl": pickled, "part-1.pkl": pickled}
    yield "a pickle of Agatha", agatha | {"__done__": b"part-0.pkl\npart-1.pkl\n"}


def _without_marker(files):
    return {name: data for name, data in files.items() if name != "__done__"}


def hostile_cases(victim):
    """Return name and files of each hostile checkpoint; loading none makes *victim*."""
    return [*_manifests(), *_files(str(victim))]


# ---- the judge ----


def stranger(records):
    """Return the part of *records* that is not a value of the format, or is huge."""
    from agatha_ckpt._format.types import Kind

    level = [records]
    while level:
        below = []
        for value in level:
            if isinstance(value, Kind):
                return "an object of the library's own"
            if isinstance(value, np.ndarray) and value.nbytes > PEAK_BYTES:
                return f"an array of {value.nbytes:,} bytes"
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple | set | frozenset):
                below += value
        level = below
    return None


class Judge:
    """What comes of one hostile checkpoint, through each call of the library."""

    def __init__(self, root):
        self.store = CheckpointStore(root, fsync=False)
        self.checkpointer = Checkpointer(self.store, verbose=False)
        self.bag = dask.bag.from_sequence(RECORDS, npartitions=2)
        self.faults = []

    def attempt(self, what, do):
        try:
            return do()
        except CheckpointError as error:
            return error
        except BaseException as error:
            self.fault("errors", f"{what} raises {type(error).__name__}: {error}")
            return error

    def fault(self, kind, text):
        self.faults.append((kind, text[:160]))

    def load(self):
        return self.checkpointer.checkpoint("a").compute()

    def read(self):
        manifest = self.store.manifest("a")
        return [
            list(self.store.open_partition("a", manifest.plan, index, info))
            for index, info in enumerate(manifest.partitions)
        ]

    def judge(self, was_done):
        """Return the outcome; what is wrong with it is then in `faults`."""
        store, attempt = self.store, self.attempt
        loaded = attempt("loading", self.load)
        attempt("reading", self.read)
        attempt("take", lambda: self.checkpointer.checkpoint("a").take(1))
        for name in ("status", "is_done"):
            attempt(name, partial(getattr(store, name), "a"))
        attempt("names", store.names)
        found = attempt("verify", lambda: store.verify("a"))
        count = attempt("count", lambda: self.checkpointer.checkpoint("a").count())
        if isinstance(loaded, list):
            if strange := stranger(loaded):
                self.fault("records", f"loads {strange}")
            counted = attempt("count", count.compute)
            if counted != len(loaded):
                text = f"counts {counted} records and loads {len(loaded)}"
                self.fault("records", text)
            if found != []:
                self.fault("verify", f"loads, and verify returns {found}")
        if isinstance(loaded, CorruptCheckpointError) and isinstance(found, list):
            indexes = {damaged.index for damaged in found}
            named = {int(n) for n in re.findall(r"partition (\d+) of", str(loaded))}
            if not named <= indexes:
                text = f"verify names {sorted(indexes)}, and loading raises {loaded}"
                self.fault("verify", text)
        outcome = "loads" if isinstance(loaded, list) else type(loaded).__name__
        del loaded
        self._heal(was_done, outcome)
        return outcome

    def _heal(self, was_done, outcome):
        attempt, checkpointer = self.attempt, self.checkpointer
        recompute = partial(checkpointer.checkpoint, on_stale="recompute")
        attempt("saving", lambda: recompute("a", self.bag))
        if outcome == CorruptCheckpointError.__name__ or not was_done:
            again = attempt("loading again", self.load)
            if isinstance(again, CorruptCheckpointError):
                attempt("repair", lambda: checkpointer.repair("a", self.bag))
                again = attempt("loading after repair", self.load)
            if was_done and again != RECORDS:
                self.fault("healing", "neither the bag nor repair heals it")
        attempt("clear", lambda: checkpointer.clear("a"))
        attempt("saving anew", lambda: checkpointer.checkpoint("a", self.bag))
        if attempt("loading anew", self.load) != RECORDS:
            self.fault("healing", "not even clear heals it")


# ---- the process in which hostile cases are judged ----


class Watch:
    """An audit hook: what is opened outside the root, and what runs code."""

    RUNS = frozenset(
        {"os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}
        | {"os.fork", "ctypes.dlopen"}
    )

    def __init__(self, root):
        import agatha_ckpt

        package = Path(agatha_ckpt.__file__).parent
        python = [sys.prefix, sys.base_prefix, *zoneinfo.TZPATH]
        known = [root, package, Path(__file__).parents[1], *python, "/proc/self"]
        self.known = tuple(f"{Path(path)}/" for path in known)
        self.seen = None

    def __call__(self, event, arguments):
        if self.seen is None:
            return
        if event in self.RUNS:
            self.seen.append(f"{event}{arguments[:2]}")
        elif event == "open" and isinstance(arguments[0], str):
            path = str(Path(arguments[0]).absolute())
            if not path.startswith(self.known) and path != "/dev/null":
                self.seen.append(f"opens {path}")


def _judge_in(root, number, name, files):
    folder = Path(root) / str(number) / "a"
    folder.mkdir(parents=True)
    for path, data in files.items():
        (folder / path).write_bytes(data)
    del files
    print(json.dumps({"number": number, "name": name}), flush=True)
    faulthandler.dump_traceback_later(20 * SECONDS, exit=True)  # if it only waits
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    judge = Judge(folder.parent)
    Path("/proc/self/clear_refs").write_text("5")  # the high water mark anew
    outcome = judge.judge((folder / "__done__").exists())
    peak = high_water_mark()
    signal.setitimer(signal.ITIMER_PROF, 0)
    faulthandler.cancel_dump_traceback_later()
    return {"outcome": outcome, "peak": peak, "faults": judge.faults}


def main():
    import resource

    # A larger claim raises MemoryError, and the machine is not disturbed.
    faulthandler.register(signal.SIGPROF, chain=True)  # and then it ends the process
    resource.setrlimit(resource.RLIMIT_AS, (6_000 * MB, 6_000 * MB))
    first, step = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory() as root, dask.config.set(scheduler="sync"):
        os.chdir(root)  # names relative to an open folder look relative to this one
        victim = Path(root) / "victim"
        cases = hostile_cases(victim)
        print(json.dumps({"cases": len(cases)}), flush=True)
        warm_up = Judge(Path(root) / "warm-up")  # imports what is imported late
        warm_up.judge(False)
        watch = Watch(root)
        sys.addaudithook(watch)
        for number in range(first, len(cases), step):
            watch.seen = []
            found = _judge_in(root, number, *cases[number])
            seen, watch.seen = watch.seen, None
            shutil.rmtree(Path(root) / str(number))
            faults = found["faults"]
            faults += [("code", text) for text in sorted(set(seen))]
            if victim.exists():
                faults.append(("code", "runs code"))
                victim.unlink()
            if too_large := found["peak"] > PEAK_BYTES:
                faults.append(("memory", f"takes {found['peak'] // MB} MB"))
            print(json.dumps(found), flush=True)
            if too_large:
                break  # the next one would be blamed for it


if __name__ == "__main__":
    main()
