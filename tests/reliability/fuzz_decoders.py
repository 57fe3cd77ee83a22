"""Fuzz a decoder with atheris, which is in the dependency group ``fuzz``.

    python -m tests.reliability.fuzz_decoders partition --seconds 600
    python -m tests.reliability.fuzz_decoders manifest --seconds 600

A finding ends the process; its input is written to the folder that is printed. It is an
exception other than a CheckpointError, a value that the format does not have, code that
runs, a hang of more than a second, or more than 512 MB.
"""

import argparse
import hashlib
import random
import sys
import tempfile
from pathlib import Path

HANG_SECONDS, RSS_MB = 1, 512
RUNS = frozenset({"os.system", "subprocess.Popen", "pickle.find_class"})


def fuzz(decoder, folder, seconds):
    import atheris

    with atheris.instrument_imports(include=["agatha_ckpt"]):
        from agatha_ckpt import CheckpointError
        from tests.reliability.decoders import INPUT_BYTES, TARGETS, first_inputs

    target, calling = TARGETS[decoder](), False
    corpus = folder / "corpus"
    corpus.mkdir()
    for data in first_inputs():
        (corpus / hashlib.sha256(data).hexdigest()).write_bytes(data)

    def audit(event, arguments):
        if calling and event in RUNS:
            raise AssertionError(f"{event}{arguments}")

    def run(data):
        nonlocal calling
        for call in target.calls(data):
            try:
                calling = True
                call()
            except CheckpointError:
                pass
            finally:
                calling = False

    def mutate(data, size, seed):
        rng = random.Random(seed)
        if rng.random() < 0.25:
            return atheris.Mutate(data, size)
        return target.mutate(data, size, rng, atheris.Mutate)[:size]

    run(b"")  # the first call imports, which would take for a hang
    sys.addaudithook(audit)
    options = {
        "max_total_time": seconds,
        "timeout": HANG_SECONDS,
        "rss_limit_mb": RSS_MB,
        "max_len": INPUT_BYTES,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
    }
    flags = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], run, custom_mutator=mutate)
    atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("decoder", choices=["partition", "manifest"])
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(f"corpus and findings are in {folder}", flush=True)
    fuzz(arguments.decoder, folder, arguments.seconds)


if __name__ == "__main__":
    main()
