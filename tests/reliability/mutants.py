"""Twelve defects that a checkpoint library can have: the tests are to find each.

    python -m tests.reliability.mutants
    python -m tests.reliability.mutants "plain create" "no fsync"

Each mutant is an edit of the source, made in a copy of the package. The first command
runs every part of the harness against every mutant, and prints which parts find it.
test_mutants runs one test for each mutant, the quickest that finds it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "agatha_ckpt"


@dataclass(frozen=True)
class Edit:
    """Text of a module, which must be there exactly once, and what replaces it."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A defect, and what finds it first.

    Attributes
    ----------
    name : str
    test : str
        Its file, function and parameters.
    says : str
        Regular expression for how that test fails: it is to be for the right reason.
    edits : tuple of Edit
    """

    name: str
    test: str
    says: str
    edits: tuple[Edit, ...]


MUTANTS = [
    Mutant(
        "no fsync",
        "reliability/test_durability.py::test_all_is_synced_in_order_before_the_marker_appears_P2",
        r"\('fsync', '\.tmp-.* is not in list",
        (Edit("_filesystem/local", "os.fsync(file.fileno())", "pass"),),
    ),
    Mutant(
        "fixed part names",
        "reliability/test_crossings.py::test_whatever_another_run_does_between_any_two_steps_nothing"
        "_is_mixed_or_lost_P1_P3[memory-a repair-commit]",
        r"<- a save of the same plan -> .* is damaged: it has \d+ bytes, not \d+;",
        (
            Edit(
                "_format/names",
                'f"part-{index:05d}-{plan.digest}-{attempt}.{plan.suffix}"',
                'f"part-{index:05d}-{plan.digest}-{0:016}{attempt[16:]}.{plan.suffix}"',
            ),
        ),
    ),
    Mutant(
        "no digest check",
        "reliability/test_damage.py::test_p5_files_in_the_place_of_others_are_named_and_heal[zstd]",
        "AssertionError: assert .* == None",
        (
            Edit(
                "_format/codec",
                'if digest not in ("", footer.digest):',
                "if not footer.digest:",
            ),
            Edit(
                "_format/codec",
                "if footer.digest != running.hexdigest()[: 2 * DIGEST_BYTES]:",
                "if not footer.digest:",
            ),
        ),
    ),
    Mutant(
        "exists() for done",
        "reliability/test_faults.py::test_any_one_fault_loses_nothing"
        "[memory-save over a broken marker]",
        "LossError: a damaged checkpoint",
        (
            Edit(
                "_store/inventory",
                "return self.find_manifest(name) is not None",
                "return '__done__' in self._folder(name).sizes()",
            ),
        ),
    ),
    Mutant(
        "listing instead of manifest",
        "reliability/test_faults.py::test_any_one_fault_loses_nothing[memory-recompute]",
        "LossError: (a damaged checkpoint|the next run has saved, and it is not done)",
        (
            Edit(
                "_store/folder",
                "            return decode_manifest(data, self.describe())\n",
                """\
            from dataclasses import replace

            manifest = decode_manifest(data, self.describe())
            sizes = self.sizes()
            listed = {f.index: n for n in sorted(sizes) if (f := parse_filename(n))}
            partitions = []
            for index, info in enumerate(manifest.partitions):
                file = listed.get(index, info.file)
                size = sizes.get(file, info.bytes)
                partitions.append(replace(info, file=file, bytes=size, digest=""))
            return replace(manifest, partitions=tuple(partitions))
""",
            ),
        ),
    ),
    Mutant(
        "absolute paths",
        "store/test_store.py::test_a_root_can_be_copied_and_moved_P7[local]",
        "was replaced or cleared since this bag was loaded",
        (
            Edit(
                "_store/partition",
                "return footers[0].info(filename)",
                "return footers[0].info(folder.file(filename))",
            ),
            Edit(
                "_store/folder",
                'return f"{self.path}/{filename}"',
                'return filename if "/" in filename else f"{self.path}/{filename}"',
            ),
            Edit(
                "_store/folder",
                "size = sizes.get(info.file)",
                'size = sizes.get(info.file.rpartition("/")[2])',
            ),
            Edit(
                "_format/manifest",
                "frozenset(partition.file for",
                'frozenset(partition.file.rpartition("/")[2] for',
            ),
            Edit(
                "_format/manifest",
                "parse_filename(partition.file)",
                'parse_filename(partition.file.rpartition("/")[2])',
            ),
        ),
    ),
    Mutant(
        "plan ignored",
        "reliability/test_faults.py::test_any_one_fault_loses_nothing"
        "[memory-save over another plan]",
        "LossError: other records",
        (
            Edit(
                "_format/names",
                "hashlib.sha256(canonical(description)).hexdigest()[:8]",
                '"0" * 8',
            ),
            Edit(
                "_format/codec",
                "if found_in != (expected.plan, expected.index, expected.npartitions):",
                "if header.index != expected.index:",
            ),
        ),
    ),
    Mutant(
        "plain create",
        "reliability/test_crossings.py::test_whatever_another_run_does_between_any_two_steps_nothing"
        "_is_mixed_or_lost_P1_P3[memory-a save-commit]",
        "<- a save of another plan -> .*its file is missing",
        (
            Edit(
                "_filesystem/local",
                "os.link(temporary, path)",
                "os.replace(temporary, path)",
            ),
            Edit("_filesystem/remote", "if self._conditional:\n", "if False:\n"),
            Edit("_filesystem/remote", "if self._memory:\n", "if False:\n"),
        ),
    ),
    Mutant(
        "marker before parts",
        "reliability/test_faults.py::test_any_one_fault_loses_nothing[memory-save]",
        "LossError: a damaged checkpoint",
        (
            Edit(
                "_filesystem/remote",
                "self._fs.pipe_file(path, spool.read())",
                'self.__dict__.setdefault("later", {})[path] = spool.read()',
            ),
            Edit(
                "_store/commit",
                "if not _all_there(folder, manifest, sizes):",
                "if False:",
            ),
            Edit(
                "_store/commit",
                "        winner, placed = _put_marker(folder, manifest, replaces, "
                "marked)\n",
                """\
        winner, placed = _put_marker(folder, manifest, replaces, marked)
        for path, data in folder.files.__dict__.pop("later", {}).items():
            folder.files._fs.pipe_file(path, data)
""",
            ),
        ),
    ),
    Mutant(
        "listing cache on",
        "reliability/test_network.py::test_a_second_client_that_had_listed_sees_what_another_does"
        "_at_its_first_poll[url]",
        "_exists",
        (
            Edit(
                "_store/root",
                'options.setdefault("use_listings_cache", False)',
                'options.setdefault("use_listings_cache", True)',
            ),
            Edit("_filesystem/remote", "self._fs.invalidate_cache(folder)", "pass"),
        ),
    ),
    Mutant(
        "parts deleted before marker",
        "reliability/test_faults.py::test_any_one_fault_loses_nothing[memory-clear]",
        "LossError: a damaged checkpoint",
        (
            Edit(
                "_store/folder",
                """\
            if DONE_MARKER in own:
                self.files.remove(self.path, [DONE_MARKER])
                self.sync()
""",
                "",
            ),
        ),
    ),
    Mutant(
        "pickle on load",
        "format/test_types.py::test_p8_a_pickle_is_not_loaded_whatever_its_block_says"
        "[1-PickleNotAllowedError]",
        "DID NOT RAISE PickleNotAllowedError",
        (
            Edit(
                "_format/types",
                "                _refuse_pickle()\n",
                "                pass\n",
            ),
        ),
    ),
]


AS_IT_IS = Mutant("the library as it is", "", "", ())

# The harness, as far as it runs with each commit.
PARTS = {
    "faults": ["test_faults.py"],
    "damage": ["test_damage.py"],
    "kills": ["test_kill.py"],
    "races": ["test_race.py", "test_crossings.py", "test_rivals.py"],
    "disk": ["test_disk.py"],
    "power": ["test_power.py", "test_durability.py"],
    "network": ["test_network.py", "test_network_more.py"],
    "resources": ["test_resources.py"],
    "soak": ["test_soak.py"],
    "resume": ["test_resume.py", "test_commit.py"],
    "store": ["test_store.py", "test_store_model.py", "test_legacy.py"],
    "format": ["test_format.py", "test_codec.py", "test_types.py", "test_text.py"],
}


class StaleEditError(Exception):
    """The source that an edit is made to is not there any more."""


def copy_with(edits, folder):
    """Make a copy of the package with these edits in a folder."""
    copy = folder / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in edits:
        path = copy / f"{edit.module}.py"
        source = path.read_text()
        if source.count(edit.old) != 1:
            raise StaleEditError(
                f"{path.name} has {source.count(edit.old)} times, not once: {edit.old}"
            )
        source = source.replace(edit.old, edit.new)
        compile(source, path, "exec")
        path.write_text(source)


def run_against(copy, scratch, tests, *options):
    """Run tests against a copy of the package; return how each of them failed.

    Returns
    -------
    dict
        Name of the test, with its parameters, to the failure's text; "" if it passed.
    """
    report = scratch / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-c", TESTS.parent / "pyproject.toml", f"--rootdir={TESTS.parent}"]
    command += [f"--basetemp={scratch / 'base'}", f"--junitxml={report}", *options]
    command += [TESTS / test for test in tests]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(copy)
    # Not in the repository's folder: pytest would import the package from there.
    done = subprocess.run(
        list(map(str, command)),
        cwd=scratch,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout)
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        failures = [*case.iter("failure"), *case.iter("error")]
        texts = [f"{f.get('message')}\n{f.text}" for f in failures]
        found[case.get("name")] = "\n".join(texts)
    return found


def tried(mutant, tests, *options):
    """Run tests against a mutant; return how each of them failed, as `run_against`."""
    with tempfile.TemporaryDirectory() as folder:
        copy, scratch = Path(folder, "copy"), Path(folder, "scratch")
        copy.mkdir()
        scratch.mkdir()
        copy_with(mutant.edits, copy)
        return run_against(copy, scratch, tests, *options)


def finders_of(mutant, parts):
    """Return which parts of the harness fail on a mutant."""
    return [p for p in parts if any(tried(mutant, PARTS[p], "--exitfirst").values())]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mutants", nargs="*", help="names; by default all of them")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    names = [mutant.name for mutant in MUTANTS]
    if unknown := set(arguments.mutants) - set(names):
        parser.error(f"no mutants: {sorted(unknown)}; there are {names}")
    chosen = [m for m in MUTANTS if m.name in (arguments.mutants or names)]
    missed = 0
    for mutant in [AS_IT_IS, *chosen]:
        finders = finders_of(mutant, arguments.parts)
        print(f"{mutant.name}: {', '.join(finders) or 'not found'}", flush=True)
        missed += bool(finders) != bool(mutant.edits)
    print(f"{len(chosen) - missed} of {len(chosen)} found")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
