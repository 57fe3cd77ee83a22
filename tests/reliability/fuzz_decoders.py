"""Fuzz a decoder with atheris, which is in the dependency group ``fuzz``.

    python -m tests.reliability.fuzz_decoders partition --seconds 600
    python -m tests.reliability.fuzz_decoders manifest --seconds 600
    python -m tests.reliability.fuzz_decoders partition --replay FILE

Inputs begin with files that the library wrote. Most mutations are made inside of a
file and its checksums are put right again, so that they reach what lies behind them.
A finding is an exception that is no CheckpointError, a value that the format does not
have, code that runs, a hang of more than a second, more than 512 MB, a dead process.
Ends with status 1 where there was one; its input then lies in the folder named.
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
from io import BytesIO
from pathlib import Path

HANG_SECONDS, RSS_MB, INPUT_BYTES = 1, 512, 4096
NAME, PLAN = "a", "0123abcd"


def fresh_corpus(folder):
    """Write what fuzzing begins with: files that the library itself made."""
    from tests.format.test_codec import HOSTILE_PAYLOADS, encode
    from tests.format.test_format import SAMPLES, partition_file
    from tests.reliability import damage

    found = []
    for records in ([], [1, [2]], [("a", 1)], [("b", [1]), {"k": {1, 2}}], ["\ud800"]):
        found += [encode(records, compression)[0] for compression in (None, "zstd")]
    found += [
        path.read_bytes()
        for path in SAMPLES.glob("*/*")
        if path.stat().st_size <= INPUT_BYTES
    ]
    payloads = [(1, 1, payload) for payload in HOSTILE_PAYLOADS.values()]
    for hostile in [*damage.BLOCKS.values(), *payloads]:
        if len(hostile[2]) < INPUT_BYTES // 2 and b"999" not in hostile[2]:
            found.append(partition_file([hostile], PLAN, 0, 2))
    found += [damage.checkpoint_files()["__done__"], b"", b"\n"]
    found += [b"/gone/a/part-0.pkl\n/gone/a/part-1.pkl\n", b"part-0.txt\r\npart-1.txt"]
    for data in found:
        (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)


# ---- what is called with each input ----


class Partition:
    """The decoder of partition files."""

    def __init__(self):
        from agatha_ckpt._format import codec as _codec
        from agatha_ckpt._format import text as _text
        from tests.reliability import damage

        self.damage, self.codec, self.text = damage, _codec, _text
        self.expected = _codec.Header(PLAN, 0, 2)
        self.hostile = [b[2] for b in damage.BLOCKS.values() if len(b[2]) < 200]

    def calls(self, data):
        """Yield what is to be called, none of which may fail but as documented."""
        yield lambda: self.codec.read_header(BytesIO(data), NAME)
        yield lambda: self.codec.read_footer(data[-57:], NAME)
        yield lambda: list(self.text.decode_text(BytesIO(data), "", NAME))
        yield lambda: self.load(data)

    def load(self, data):
        decoded = self.codec.decode_partition(
            BytesIO(data), len(data), self.expected, allow_pickle=False, where=NAME
        )
        for records in decoded:
            strange = self.damage.stranger(records)
            assert strange is None, f"loads {strange}"

    def mutate(self, data, size, rng, mutated):
        """Return *data* with a block that is another one, under right checksums."""
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
        make = self.damage.compressed_file if compressed else self.damage.partition_file
        return make(blocks, PLAN, 0, 2)


def _array_length(payload):
    """Return how many members the msgpack array *payload* says it has."""
    head = payload[:1]
    if b"\x90" <= head <= b"\x9f":
        return head[0] & 15
    if head == b"\xdc" and len(payload) >= 3:
        return int.from_bytes(payload[1:3])
    if head == b"\xdd" and len(payload) >= 5:
        return int.from_bytes(payload[1:5])
    return 1


class Manifest:
    """The decoders of done markers, Agatha's as well, and what reads a manifest."""

    def __init__(self):
        from agatha_ckpt._dask import bags as _bags
        from agatha_ckpt._format import agatha as _legacy
        from agatha_ckpt._format import manifest as _manifest
        from agatha_ckpt._store.store import CheckpointStore
        from tests.reliability import damage

        self.damage, self.bags, self.legacy = damage, _bags, _legacy
        self.manifest = _manifest
        self.store = CheckpointStore("memory://fuzz")
        self.marker = str(self.store.done_marker(NAME))
        for filename, data in damage.checkpoint_files().items():
            self.store.fs.pipe_file(f"{self.store.path(NAME)}/{filename}", data)

    def calls(self, data):
        """Yield what is to be called, none of which may fail but as documented."""
        self.store.fs.pipe_file(self.marker, data)
        sizes = {"part-0.pkl": 5, "part-1.pkl": 6}
        yield lambda: self.legacy.decode_legacy_manifest(data, sizes, NAME)
        yield lambda: self.legacy.decode_legacy_manifest(data, {}, NAME)
        yield lambda: self.store.status(NAME)
        yield self.use

    def use(self):
        manifest = self.store.manifest(NAME)
        self.store.missing(NAME, manifest)
        self.bags.load_bag(self.store, NAME, manifest, False)
        if manifest.token and manifest.plan.npartitions < 5:
            self.store.verify(NAME)
            # What a repair keeps is written again.
            again = self.manifest.Manifest(manifest.plan, manifest.partitions)
            data = self.manifest.encode_manifest(again)
            self.manifest.decode_manifest(data, NAME)

    def mutate(self, data, size, rng, mutated):
        """Return a marker that says something else, under a right seal."""
        body = data[len('{"manifest":') : -len(',"seal":""}\n') - 64]
        if not data.startswith(b'{"manifest":{'):
            lines = data.split(b"\n")
            at = rng.randrange(len(lines))
            lines[at] = rng.choice([b"part-2.pkl", b"", mutated(lines[at], size)])
            return b"\n".join(lines)
        if rng.random() < 0.4:
            return self.damage.sealed(mutated(body, size))
        try:
            document = json.loads(body)
            self._change(document, rng)
            if rng.random() < 0.8:
                self._agree(document)
            return self.damage.sealed(json.dumps(document).encode())
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return self.damage.sealed(mutated(body, size))

    def _change(self, document, rng):
        """Put something else at a place, or what stands at another one."""
        places = list(_places(document))
        where, key = rng.choice(places)
        there, other = rng.choice(places)
        new = rng.choice([*self.damage.ANYTHING, there[other]])
        where[key] = json.loads(json.dumps(new))

    def _agree(self, document):
        """Put file names and id right, for such a plan and such digests."""
        plan, columns = document["plan"], document["partitions"]
        parents = sorted({i for _, i in document["parents"]})
        said = [plan["npartitions"], plan["format"], plan["version"], parents]
        digest = hashlib.sha256(_compact(said)).hexdigest()[:8]
        columns["file"] = [
            re.sub(r"(?<=^part-.{5}-)[0-9a-f]{8}", digest, name)
            for name in columns["file"]
        ]
        content = zip(columns["digest"], columns["file"], strict=True)
        content = [plan["format"], [digest or file for digest, file in content]]
        document["id"] = hashlib.sha256(_compact(content)).hexdigest()[:32]


def _compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


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
    """Calls a target, and writes down what must not happen."""

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
    """Call a target with one input and say what happens."""
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
        fresh_corpus(corpus)
    end, seed, deaths = time.monotonic() + seconds, 0, Counter()
    peak = 0
    while (left := round(end - time.monotonic())) > 0:
        seed += 1
        command = [sys.executable, __file__, kind, "--child", str(folder)]
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


def _place_of_death(said, name):
    """Return how and where an input ended the process, as far as that can be seen."""
    frames = re.findall(r'agatha_ckpt/(\w+\.py)", line (\d+)', said)
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
    said = parser.parse_args()
    if said.replay:
        with tempfile.TemporaryDirectory() as folder:
            return replay(said.decoder, said.replay, Path(folder))
    if importlib.util.find_spec("atheris") is None:
        parser.exit(
            2, "atheris is not installed; pip install --group fuzz, then try again\n"
        )
    if said.child:
        return fuzz(said.decoder, said.child, said.seconds, said.seed)
    folder = said.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    folder.mkdir(exist_ok=True)
    runs, peak, findings = campaign(said.decoder, folder, said.seconds)
    for finding in findings:
        print(f"  {finding}")
    print(
        f"{said.decoder}: {runs:,} runs in {said.seconds} s, peak memory {peak} MB, "
        f"{len(findings)} findings; corpus and findings are in {folder}"
    )
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
