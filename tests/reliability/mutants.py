"""Defects that a checkpoint library can have: the tests are to find each of them.

Each mutant is an edit of the source, made in a copy of the package. The test that is
named for it must fail on the copy, with the message that is named for it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Edit:
    """Text of a module, which must be there exactly once, and its replacement."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A defect, and the test that finds it."""

    name: str
    test: str  # its file, function and parameters
    message: str  # expression for its failure: it must fail for the right reason
    edits: tuple[Edit, ...]


FAULTS = "reliability/test_faults.py::test_any_one_fault_loses_nothing"
SIMULATION = "reliability/simulation/test_simulation.py::test_"
MUTANTS = [
    Mutant(
        "no fsync",
        "reliability/test_power.py::test_p2_a_power_cut_at_any_moment_leaves_it_right_or"
        "_not_done[save-1_0]",
        "assert 'documented error' in",
        (Edit("_filesystem/local", "sync_file(file.fileno())", "pass"),),
    ),
    Mutant(
        "fixed file names",
        f"{FAULTS}[memory-recompute other inputs]",
        "LossError",
        (
            Edit(
                "_format/names",
                'attempt = f"{run or new_run()}{new_run()}"',
                'fingerprint, base, attempt = "0" * 32, NO_BASE, "0" * 16',
            ),
        ),
    ),
    Mutant(
        "no digest check",
        "reliability/test_damage.py::test_p5_files_in_the_place_of_others_are_named_and"
        "_heal[zstd]",
        "AssertionError",
        (
            Edit(
                "_format/partition_file",
                "if ends.info.digest != info.digest:",
                "if not info.digest:",
            ),
            Edit(
                "_format/partition_file",
                "if info.digest != running.hexdigest()[: 2 * DIGEST_BYTES]:",
                "if not info.digest:",
            ),
        ),
    ),
    Mutant(
        "exists() for done",
        f"{FAULTS}[memory-save over a damaged marker]",
        "LossError: a damaged checkpoint",
        (
            Edit(
                "_store/store",
                "return is_done(self._folder(name))",
                "return '__done__' in self._folder(name).list()",
            ),
        ),
    ),
    Mutant(
        "listing instead of manifest",
        f"{FAULTS}[memory-recompute]",
        "LossError: a damaged checkpoint",
        (
            Edit(
                "_store/folder",
                "            return manifest\n        listed",
                """\
            from dataclasses import replace

            sizes = self.list()
            listed = {f.index: n for n in sorted(sizes) if (f := parse_filename(n))}
            partitions = []
            for index, info in enumerate(manifest.partitions):
                file = listed.get(index, info.file)
                size = sizes[file].bytes if file in sizes else info.bytes
                partitions.append(replace(info, file=file, bytes=size))
            return replace(manifest, partitions=tuple(partitions))
        listed""",
            ),
        ),
    ),
    Mutant(
        "place in the fingerprint",
        "reliability/test_containment.py::test_p7_a_root_loads_and_resumes_wherever_it"
        "_was_moved",
        "is stale",
        (
            Edit(
                "_dask/calls",
                "= _content(info.value if isinstance(info, DataNode) else info)",
                '= tagged(b"load", text(call.function.store.url))',
            ),
        ),
    ),
    Mutant(
        "fingerprint ignored",
        f"{FAULTS}[memory-save over other inputs]",
        "LossError: the next run has saved, and it is .* 'other'",
        (
            Edit(
                "_store/resume",
                "elif parsed.fingerprint not in needed:",
                "elif False:",
            ),
            Edit(
                "_store/resume",
                "whole.append((parsed, found))",
                "whole.append((replace(parsed, fingerprint=wanted[parsed.index]), "
                "found))",
            ),
        ),
    ),
    Mutant(
        "swap without compare",
        "filesystem/test_swap.py::test_a_file_is_swapped_only_if_it_is_what_was_expected"
        "[memory]",
        "assert not True",
        (
            Edit(
                "_filesystem/remote",
                "if self._content(path) != expected:",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "marker before partitions",
        f"{FAULTS}[memory-save]",
        "LossError: a damaged checkpoint",
        (
            Edit(
                "_filesystem/remote",
                "self._fs.pipe_file(path, spool.read(), **self._options)",
                'self.__dict__.setdefault("later", {})[path] = spool.read()',
            ),
            Edit(
                "_store/commit",
                "    if not all_present(folder, manifest.partitions, listed):\n",
                "    if False:\n",
            ),
            Edit(
                "_store/commit",
                "    if not all_present(folder, manifest.partitions, folder.list()):\n",
                """\
    for path, later in folder.files.__dict__.pop("later", {}).items():
        folder.files._fs.pipe_file(path, later)
    if not all_present(folder, manifest.partitions, folder.list()):
""",
            ),
        ),
    ),
    Mutant(
        "listing cache on",
        "reliability/test_network.py::test_p2_a_second_client_that_has_listed_sees"
        "_changes_at_its_first_look[url]",
        "_exists|exists",
        (
            Edit(
                "_filesystem/factory",
                '{"use_listings_cache": False} | options',
                '{"use_listings_cache": True} | options',
            ),
            Edit("_filesystem/remote", "self._fs.invalidate_cache(folder)", "pass"),
        ),
    ),
    Mutant(
        "clear removes partitions first",
        f"{FAULTS}[memory-clear]",
        "LossError: a damaged checkpoint",
        (
            Edit(
                "_store/contents",
                "            if DONE_MARKER in own:\n",
                "            if False:\n",
            ),
        ),
    ),
    Mutant(
        "pickle on load",
        "format/test_codec.py::test_p8_no_flag_or_manifest_makes_a_load_unpickle",
        "DID NOT RAISE",
        (
            Edit(
                "_format/blocks",
                "loads = pickles.loads if allow_pickle else None",
                "loads = pickles.loads",
            ),
        ),
    ),
    # The holes of earlier protocols, see docs/how-a-save-works.md.
    Mutant(
        "no base",
        f"{SIMULATION}two_actors_with_a_crash_and_one_preemption[recompute over a done"
        " one's partial]",
        "assert not",
        (Edit("_store/resume", "elif parsed.base != marker.base:", "elif False:"),),
    ),
    Mutant(
        "no second listing",
        f"{SIMULATION}two_actors_beside_a_clear_with_a_crash[saver and clear]",
        "assert not",
        (
            Edit(
                "_store/commit",
                "    if not all_present(folder, manifest.partitions, folder.list()):\n",
                "    if False:\n",
            ),
        ),
    ),
    Mutant(
        "leftovers from a later listing",
        f"{SIMULATION}two_actors_with_a_crash_and_one_preemption[two incremental"
        " recomputes]",
        "assert not",
        (
            Edit(
                "_store/commit",
                "(n for n in listed if _is_leftover(n, manifest, replaces))",
                "(n for n in folder.list() if _is_leftover(n, manifest, replaces))",
            ),
        ),
    ),
    Mutant(
        "take-back without compare",
        f"{SIMULATION}two_actors_beside_a_clear_with_a_crash[saver and clear]",
        "assert not",
        (
            Edit(
                "_store/commit",
                "        if folder.files.swap(folder.marker, data, None):\n",
                "        folder.files.remove(folder.path, [DONE_MARKER])\n"
                "        if True:\n",
            ),
        ),
    ),
    Mutant(
        "delete before take-back",
        f"{SIMULATION}two_actors_with_a_crash_and_one_preemption[saver and recompute"
        " over its partial]",
        "assert not",
        (
            Edit(
                "_store/commit",
                "        if folder.files.swap(folder.marker, data, None):\n",
                "        _remove(folder, manifest.files)\n"
                "        if folder.files.swap(folder.marker, data, None):\n",
            ),
        ),
    ),
]


class StaleEditError(Exception):
    """The source that an edit is made to has changed."""


def copy_with(edits, folder):
    """Copy package and tests into a folder, and make these edits."""
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("agatha_ckpt", "tests"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignore)
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    for edit in edits:
        path = folder / "agatha_ckpt" / f"{edit.module}.py"
        source = path.read_text()
        if source.count(edit.old) != 1:
            raise StaleEditError(
                f"{edit.module} has {source.count(edit.old)} times, not once: "
                f"{edit.old}"
            )
        source = source.replace(edit.old, edit.new)
        compile(source, path, "exec")
        path.write_text(source)


def failures_of(mutant, tests):
    """Run tests on a mutant; return each one's failure, an empty text if it passed."""
    with tempfile.TemporaryDirectory() as scratch:
        copy, report = Path(scratch, "copy"), Path(scratch, "report.xml")
        copy_with(mutant.edits, copy)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [f"--basetemp={scratch}/base", f"--junitxml={report}", "-n0"]
        command += ["-m", "long or not long", *(f"tests/{test}" for test in tests)]
        environment = {k: v for k, v in os.environ.items() if "PYTEST" not in k}
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment | {"PYTHONPATH": str(copy)},
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
