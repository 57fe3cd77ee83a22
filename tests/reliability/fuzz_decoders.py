"""Fuzz a decoder with atheris, which is in the dependency group ``fuzz``.

    python -m tests.reliability.fuzz_decoders partition --seconds 600
    python -m tests.reliability.fuzz_decoders manifest --seconds 600
    python -m tests.reliability.fuzz_decoders partition --replay FILE

The first inputs are files that the library wrote. Most mutations are made inside a file
and its checksums are put right again, so that they reach what lies behind them. A
finding is an exception other than a CheckpointError, a value that the format does not
have, code that runs, a hang of more than a second, more than 512 MB, a dead process.
Ends with status 1 if there was one; its input then lies in the folder that is printed.
"""

import argparse
import faulthandler
import hashlib
import importlib.util
import json
import mmap
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

HANG_SECONDS, RSS_MB, INPUT_BYTES = 1, 512, 4096
NAME = "a"


def first_inputs():
    """Return the inputs to begin with: files that the library itself made, and more."""
    from tests.format.memory_file import encode
    from tests.format.specification import SAMPLES, partition_file
    from tests.reliability import damage

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
    found += [damage.checkpoint_files()["__done__"], b"", b"\n"]
    agatha = b"/gone/a/part-0.pkl\n/gone/a/part-1.pkl\n"
    return [*found, agatha, b"part-0.txt\r\npart-1.txt"]


# ---- what is called with each input ----


class Partition:
    """The decoders of partition files."""

    def __init__(self):
        from agatha_ckpt._format import codec
        from tests.format import memory_file, specification
        from tests.reliability import damage

        self.damage, self.memory_file = damage, memory_file
        self.specification = specification
        self.codecs = [codec.codec_for(form) for form in ("msgpack", "text")]
        self.hostile = [b[2] for b in damage.BLOCKS.values() if len(b[2]) < 200]

    def calls(self, data):
        """Yield the calls, none of which may fail but as documented."""
        for codec in self.codecs:
            for remote in (False, True):
                name = self.specification.filename(0)
                file = self.memory_file.MemoryFile(data, name, remote)
                yield lambda c=codec, f=file: c.inspect(f)
                yield lambda c=codec, f=file: c.expected_partitions(f)
        yield lambda: self.load(data)

    def load(self, data):
        file = self.memory_file.MemoryFile(data, self.specification.filename(0))
        strange = self.damage.stranger(self.memory_file.decode(file))
        assert strange is None, f"loads {strange}"

    def mutate(self, data, size, rng, mutated):
        """Return *data* with another block, under right checksums."""
        compressed, blocks = self.damage.blocks_of(data) or (False, [])
        blocks = blocks or [(1, 1, b"\x91" + rng.choice(self.hostile)[1:])]
        at = rng.randrange(len(blocks))
        flags, count, payload = blocks[at]
        match rng.randrange(8):
            case 0:
                where = rng.randrange(len(payload) + 1)
                more = rng.choice(self.hostile)[1:]
                payload = payload[:where] + more + payload[where:]
            case 1:
                flags = rng.choice([0, 1, 4, 5, 8, 9, 13, rng.randrange(256)])
            case 2:
                compressed = not compressed
            case 3:
                blocks.append(rng.choice(blocks))
            case _:
                payload = mutated(payload, size)
        if rng.random() < 0.9:
            count = _array_length(payload)
        blocks[at] = (flags, count, payload)
        make = self.damage.compressed_file
        return (make if compressed else self.specification.partition_file)(blocks, 0, 2)


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
        from agatha_ckpt import Checkpointer
        from tests.reliability import damage

        self.damage = damage
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
        sealed = self.damage.sealed
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
        new = rng.choice([*self.damage.ANYTHING, there[other]])
        where[key] = json.loads(json.dumps(new))

    def _agree(self, document):
        """Set the id to that of the present content."""
        content = [document["plan"]["format"], document["partitions"]["digest"]]
        data = self.damage.canonical(content)
        document["id"] = hashlib.sha256(data).hexdigest()[:32]


def _places(value):
    """Yield each container in *value* with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, member in pairs:
        yield value, key
        yield from _places(member)


TARGETS = {"partition": Partition, "manifest": Manifest}


# ---- the process that fuzzes ----


class Watch:
    """Calls a target, and records what must not happen."""

    RUNS = frozenset({"os.system", "subprocess.Popen", "pickle.find_class"})

    def __init__(self, target, folder, runs=None):
        from agatha_ckpt import CheckpointError

        self.target, self.folder, self.runs = target, folder, runs
        self.documented = CheckpointError
        self.count, self.calling, self.seen = 0, False, set()
        sys.addaudithook(self.audit)

    def audit(self, event, arguments):
        if self.calling and event in self.RUNS:
            raise AssertionError(f"{event}{arguments}")

    def __call__(self, data):
        self.count += 1
        if self.runs is not None:
            self.runs[:8] = struct.pack("<Q", self.count)
        for call in self.target.calls(data):
            try:
                self.calling = True
                call()
            except self.documented:
                pass
            except BaseException as error:
                self.calling = False
                self.note(error, data)
            finally:
                self.calling = False

    def note(self, error, data):
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "agatha_ckpt" in f.filename] or frames
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        text = f"{type(error).__name__} at {where}: {error}"[:160]
        if (type(error), where) in self.seen:
            return
        self.seen.add((type(error), where))
        path = self.folder / f"error-{hashlib.sha256(data).hexdigest()[:16]}"
        path.write_bytes(data)
        with (self.folder / "findings.jsonl").open("a") as file:
            print(json.dumps([type(error).__name__, where, text, path.name]), file=file)


def fuzz(kind, folder, seconds, seed):
    import atheris

    with atheris.instrument_imports(include=["agatha_ckpt"]):
        import agatha_ckpt  # noqa: F401

    target, corpus = TARGETS[kind](), folder / "corpus"
    with (folder / f"runs-{seed}").open("wb+") as file:
        file.write(bytes(8))
        file.flush()
        watch = Watch(target, folder, mmap.mmap(file.fileno(), 8))

        def mutate(data, size, mutation_seed):
            rng = random.Random(mutation_seed)
            if rng.random() < 0.25:
                return atheris.Mutate(data, size)
            return target.mutate(data, size, rng, atheris.Mutate)[:size]

        options = {
            "max_total_time": seconds,
            "timeout": HANG_SECONDS,
            "rss_limit_mb": RSS_MB,
            "max_len": INPUT_BYTES,
            "seed": seed,
            "artifact_prefix": f"{folder}/",
            "report_slow_units": 1000,
            "verbosity": 0,
            "print_final_stats": 1,
        }
        flags = [f"-{name}={value}" for name, value in options.items()]
        command = [sys.argv[0], *flags, str(corpus)]
        atheris.Setup(command, watch, custom_mutator=mutate)
        atheris.Fuzz()


def replay(kind, path, folder):
    """Call a target with one input and print the findings."""
    watch = Watch(TARGETS[kind](), folder)
    faulthandler.dump_traceback_later(10 * HANG_SECONDS, exit=True)
    watch(path.read_bytes())
    faulthandler.cancel_dump_traceback_later()
    found = folder / "findings.jsonl"
    print(found.read_text() if found.exists() else "as documented")


# ---- the process that starts it, again after each death ----


def campaign(kind, folder, seconds):
    """Fuzz for *seconds*; return the number of runs, the peak in MB, the findings."""
    corpus = folder / "corpus"
    if not corpus.exists():
        corpus.mkdir()
        for data in first_inputs():
            (corpus / hashlib.sha256(data).hexdigest()).write_bytes(data)
    end, seed, deaths = time.monotonic() + seconds, 0, Counter()
    peak = 0
    while (left := round(end - time.monotonic())) > 0:
        seed += 1
        command = [sys.executable, "-m", __spec__.name, kind, "--child", str(folder)]
        command += ["--seconds", str(left), "--seed", str(seed)]
        done = subprocess.run(command, capture_output=True, text=True)
        for found in re.findall(r"stat::peak_rss_mb:\s+(\d+)", done.stderr):
            peak = max(peak, int(found))
        if death := re.search(r"Test unit written to (\S+)", done.stderr):
            deaths[_place_of_death(done.stderr, Path(death[1]).name)] += 1
        elif done.returncode:
            raise SystemExit(f"the fuzzer failed:\n{done.stderr[-3000:]}")
    runs = sum(
        struct.unpack("<Q", path.read_bytes()[:8])[0] for path in folder.glob("runs-*")
    )
    errors = {}
    if (found := folder / "findings.jsonl").exists():
        for line in found.read_text().splitlines():
            kind_of_error, where, text, name = json.loads(line)
            errors.setdefault((kind_of_error, where), f"{text} ({name})")
    killed = [f"{text}, {times} times" for text, times in deaths.items()]
    return runs, peak, [*errors.values(), *killed]


def _place_of_death(stderr, name):
    """Return how and where an input ended the process, as far as that can be seen."""
    frames = re.findall(r'agatha_ckpt/(\w+\.py)", line (\d+)', stderr)
    where = ":".join(frames[0]) if frames else f"an unknown place ({name})"
    return f"{name.split('-')[0]} at {where}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("decoder", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="keeps corpus and findings")
    parser.add_argument("--replay", type=Path, metavar="FILE")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.replay:
        with tempfile.TemporaryDirectory() as folder:
            return replay(arguments.decoder, arguments.replay, Path(folder))
    if importlib.util.find_spec("atheris") is None:
        parser.exit(
            2, "atheris is not installed; pip install --group fuzz, then try again\n"
        )
    if arguments.child:
        return fuzz(
            arguments.decoder, arguments.child, arguments.seconds, arguments.seed
        )
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(exist_ok=True)
    runs, peak, findings = campaign(arguments.decoder, folder, arguments.seconds)
    for finding in findings:
        print(f"  {finding}")
    print(
        f"{arguments.decoder}: {runs:,} runs in {arguments.seconds} s, "
        f"peak memory {peak} MB, {len(findings)} findings; "
        f"corpus and findings are in {folder}"
    )
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
