"""The decoders, and what is changed in a file before they get it.

Most changes are made inside a file and its checksums are put right again, so that they
reach what lies behind them. test_damage makes changes at random, `fuzz_decoders` such
that lead to code that no input has reached.
"""

import hashlib
import json

from agatha_ckpt import Checkpointer
from agatha_ckpt._format.codec import codec_for
from tests.format.memory_file import MemoryFile, decode, encode
from tests.format.specification import (
    SAMPLES,
    canonical,
    filename,
    partition_file,
    sealed,
)
from tests.reliability import damage

NAME = "a"
INPUT_BYTES = 4096


def first_inputs():
    """Return the inputs to begin with: files that the library itself made, and more."""
    found = []
    for records in ([], [1, [2]], [("a", 1)], [("b", [1]), {"k": {1, 2}}], ["\ud800"]):
        for compression in (None, "zstd"):
            file, _ = encode(records, compression=compression)
            found.append(file.data)
    found += [
        path.read_bytes()
        for path in SAMPLES.glob("*/*")
        if path.stat().st_size <= INPUT_BYTES
    ]
    for hostile in damage.BLOCKS.values():
        if len(hostile[2]) < INPUT_BYTES // 2 and b"999" not in hostile[2]:
            found.append(partition_file([hostile], 0, 2))
    classes = (18, 0, b"\x81\xa4Term\xc4\x00")
    found.append(partition_file([classes, (1, 1, b"\x91\x01")], 0, 2))
    found += [damage.checkpoint_files()["__done__"], b"", b"\n"]
    agatha = b"/gone/a/part-0.pkl\n/gone/a/part-1.pkl\n"
    return [*found, agatha, b"part-0.txt\r\npart-1.txt"]


# ---- what is called with each input ----


class Partition:
    """The decoders of partition files."""

    codecs = tuple(codec_for(form) for form in ("msgpack", "text"))
    hostile = tuple(b[2] for b in damage.BLOCKS.values() if len(b[2]) < 200)

    def calls(self, data):
        """Yield the calls, none of which may fail but as documented."""
        for codec in self.codecs:
            for remote in (False, True):
                file = MemoryFile(data, filename(0), remote)
                yield lambda c=codec, f=file: c.inspect(f)
                yield lambda c=codec, f=file: c.expected_partitions(f)
        yield lambda: self.load(data)

    def load(self, data):
        strange = damage.stranger(decode(MemoryFile(data, filename(0))))
        assert strange is None, f"loads {strange}"

    def mutate(self, data, size, rng, mutated):
        """Return *data* with another block, under right checksums."""
        compressed, blocks = damage.blocks_of(data) or (False, [])
        blocks = blocks or [(1, 1, b"\x91" + rng.choice(self.hostile)[1:])]
        at = rng.randrange(len(blocks))
        flags, count, payload = blocks[at]
        match rng.randrange(8):
            case 0:
                where = rng.randrange(len(payload) + 1)
                more = rng.choice(self.hostile)[1:]
                payload = payload[:where] + more + payload[where:]
            case 1:
                flags = rng.choice([0, 1, 4, 5, 8, 9, 13, 18, rng.randrange(256)])
            case 2:
                compressed = not compressed
            case 3:
                blocks.append(rng.choice(blocks))
            case _:
                payload = mutated(payload, size)
        if rng.random() < 0.9:
            count = _array_length(payload)
        blocks[at] = (flags, count, payload)
        make = damage.compressed_file if compressed else partition_file
        return make(blocks, 0, 2)


def _array_length(payload):
    """Return how many members the msgpack array *payload* states."""
    head = payload[:1]
    if b"\x90" <= head <= b"\x9f":
        return head[0] & 15
    if head == b"\xdc" and len(payload) >= 3:
        return int.from_bytes(payload[1:3])
    if head == b"\xdd" and len(payload) >= 5:
        return int.from_bytes(payload[1:5])
    return 1


class Manifest:
    """The decoders of done markers, also of Agatha's, and the calls that read one."""

    def __init__(self):
        self.checkpointer = Checkpointer("memory://fuzz", verbose=False)
        self.store = self.checkpointer.store
        for name, data in damage.checkpoint_files().items():
            self.store.fs.pipe_file(f"{self.store.path(NAME)}/{name}", data)

    def calls(self, data):
        """Yield the calls, none of which may fail but as documented."""
        self.store.fs.pipe_file(str(self.store.done_marker(NAME)), data)
        yield lambda: self.store.status(NAME)
        yield lambda: self.checkpointer.checkpoint(NAME)
        yield self.verify

    def verify(self):
        if self.store.manifest(NAME).plan.npartitions < 5:
            self.store.verify(NAME)

    def mutate(self, data, size, rng, mutated):
        """Return another marker, under a right seal."""
        if not data.startswith(b'{"checkpoint":{'):
            lines = data.split(b"\n")
            at = rng.randrange(len(lines))
            lines[at] = rng.choice([b"part-2.pkl", b"", mutated(lines[at], size)])
            return b"\n".join(lines)
        body = data[len('{"checkpoint":') : -len(',"seal":""}\n') - 64]
        if rng.random() < 0.4:
            return sealed(mutated(body, size))
        try:
            document = json.loads(body)
            self._change(document, rng)
            if rng.random() < 0.8:
                self._agree(document)
            return sealed(json.dumps(document).encode())
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return sealed(mutated(body, size))

    def _change(self, document, rng):
        """Put something else at a place, or what stands at another one."""
        places = list(_places(document))
        where, key = rng.choice(places)
        there, other = rng.choice(places)
        new = rng.choice([*damage.ANYTHING, there[other]])
        where[key] = json.loads(json.dumps(new))

    def _agree(self, document):
        """Set the id to that of the present content."""
        content = [document["plan"]["format"], document["partitions"]["digest"]]
        data = canonical(content)
        document["id"] = hashlib.sha256(data).hexdigest()[:32]


def _places(value):
    """Yield each container in *value* with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, member in pairs:
        yield value, key
        yield from _places(member)


TARGETS = {"partition": Partition, "manifest": Manifest}
