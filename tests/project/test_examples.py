"""Each example does what its header says, as a reader would run it."""

import ast
import json
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from agatha_ckpt import CheckpointStore

EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS = ["documents", "sentences", "terms", "edges"]
CALL = re.compile(r"^Checkpoint: (\S+) .*\n((?:\t- .*\n)*)", re.MULTILINE)


def run(example, root, *args, status=0):
    """Run an example to its end and return what it printed."""
    # Pool workers that outlive a killed program hold the pipe open: then this
    # runs into the timeout.
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{example}.py", "--root", root, *args],
        cwd=root.parent,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def calls(output):
    """Return name and lines of each checkpoint that was printed, in order."""
    return [
        (name, re.findall(r"\t- (.*)", lines)) for name, lines in CALL.findall(output)
    ]


def passes(output):
    """Return what quickstart printed of its first pass, its second, and the edges."""
    first, rest = output.split("\nSecond pass; ")
    second, result = rest.split("\nTerms that ")
    return first, second, re.findall(r"^ +[\d,]+  \w+ \w+$", result, re.MULTILINE)


def files(root):
    """Return all files below *root*, with what changes when one is written."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            stat = path.stat()
            key = path.relative_to(root).as_posix()
            found[key] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


def done_names(root):
    return {path.parent.name for path in root.glob("*/__done__")}


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """A root, and the output of the first, undisturbed run of quickstart in it."""
    root = tmp_path_factory.mktemp("quickstart") / "root"
    return root, run("quickstart", root)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_the_header_of_an_example_says_what_it_shows_and_how_to_run_it(path):
    header = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert re.match(r"[A-Z].*\.\n\n", header)
    assert f"python examples/{path.name}" in header


# ---- quickstart ----


def test_quickstart_computes_in_its_first_pass_and_loads_in_its_second(quickstart):
    root, output = quickstart
    first, second, edges = passes(output)
    assert [name for name, _ in calls(first)] == STEPS
    assert [name for name, _ in calls(second)] == STEPS
    for _, lines in calls(first):
        assert re.fullmatch(r"Saving (\d+) of \1 partitions", lines[0])
        assert lines[-1].startswith("Done! ")
    for _, lines in calls(second):
        assert len(lines) == 1
        assert lines[0].startswith("Ready: ")
    assert re.search(r"\nFirst pass: .* 4 steps computed\n", output)
    assert re.search(r"\nSecond pass: .* 0 steps computed, .* times as fast\n$", output)
    assert len(edges) == 10
    assert done_names(root) == set(STEPS)


def test_quickstart_edges_are_plain_text_that_gives_the_printed_counts(quickstart):
    root, output = quickstart
    counts = {}
    for path in root.glob("edges/part-*.txt"):
        for line in path.read_text("utf-8").splitlines():
            counts[line] = counts.get(line, 0) + 1
    top = sorted(((n, edge) for edge, n in counts.items()), reverse=True)[:10]
    assert passes(output)[2] == [f"{n:8,}  {edge}" for n, edge in top]


def test_quickstart_run_again_writes_nothing_and_prints_the_same_edges(quickstart):
    root, output = quickstart
    before = files(root)
    again = run("quickstart", root)
    assert passes(again)[2] == passes(output)[2]
    assert files(root) == before
    assert {lines[0].split(":")[0] for _, lines in calls(again)} == {"Ready"}
    assert re.search(r"\nFirst pass: .* 0 steps computed\n", again)


@pytest.mark.long
def test_killed_quickstart_keeps_what_was_saved_and_computes_only_the_rest(
    quickstart, tmp_path
):
    """P1, P4: killed in two steps, one of each format, then run to the end."""
    root = tmp_path / "root"
    output, kept = "", {}
    for step in ["sentences", "edges"]:
        output += run("quickstart", root, "--kill-after", step, status=-signal.SIGKILL)
        status = CheckpointStore(root).status(step)
        stored = {n: f for n, f in files(root).items() if n.startswith(f"{step}/part-")}
        assert status.state == "partial"
        assert status.partitions == len(stored)
        assert step not in done_names(root)
        kept[step] = stored
    last = run("quickstart", root)

    lines = calls(output + last)
    for step, stored in kept.items():
        now = {n: f for n, f in files(root).items() if n.startswith(f"{step}/part-")}
        resumed = (
            rf"Saving {len(now) - len(stored)} of {len(now)} partitions; "
            rf"{len(stored)} kept\b.*"
        )
        assert stored
        assert any(
            name == step and re.fullmatch(resumed, line) for name, (line, *_) in lines
        )
        assert stored.items() <= now.items()
        assert len(now) == CheckpointStore(root).status(step).partitions
    assert passes(last)[2] == passes(quickstart[1])[2]


@pytest.mark.long
def test_quickstart_fresh_clears_its_own_checkpoints_and_no_others(tmp_path):
    root = tmp_path / "root"
    for name in ["documents", "mine"]:
        (root / name).mkdir(parents=True)
        (root / name / "__done__").touch()
    killed = run(
        "quickstart", root, "--fresh", "--kill-after=documents", status=-signal.SIGKILL
    )
    assert "done already: nothing" in killed
    assert done_names(root) == {"mine"}


# ---- features_dataframe ----


def test_features_dataframe_is_killed_resumed_and_read_by_others(tmp_path):
    root = tmp_path / "root"
    output = run("features_dataframe", root)
    assert "\nKilled by signal 9\n" in output
    resumed = dict(calls(output.partition("\nThe second run")[2]))
    assert resumed["documents"][0].startswith("Ready: ")
    assert re.match(r"Saving \d of 8 partitions; \d kept", resumed["features"][0])
    assert resumed["weights"][-1].startswith("Done! ")
    kinds = {
        status.name: status.manifest.collection["kind"]
        for status in CheckpointStore(root).statuses()
    }
    assert kinds == {
        "documents": "bag",
        "features": "dataframe",
        "matrix": "array",
        "weights": "delayed",
    }
    assert "specialnames" in output.partition("\nOther programs")[2]


# ---- explicit_pipeline ----


def test_explicit_pipeline_shows_what_its_headlines_say(tmp_path):
    root = tmp_path / "root"
    output = run("explicit_pipeline", root)
    _, two, changed, damaged, independent = re.split(r"\n(?=.*\n-{5,}\n)", output)

    assert "Both hold the same counts: True" in two
    assert [name for name, _ in calls(two)] == ["words", "counts"]  # of the loud one
    figures = re.findall(r"(\w+) is done: ([\d,]+) records in ([\d,]+) bytes", two)
    loud, quiet = figures[:2], figures[2:]
    assert [(name, n) for name, n, _ in loud] == [(name, n) for name, n, _ in quiet]
    for (_, _, plain), (_, _, compressed) in zip(loud, quiet, strict=True):
        assert int(plain.replace(",", "")) > int(compressed.replace(",", ""))

    warned, refused, recomputed = changed.split("\n\n")
    assert "StaleCheckpointWarning: " in warned
    assert "Saving" not in warned + refused
    assert "other inputs" in warned
    assert "other inputs" in refused
    assert [name for name, (line, *_) in calls(recomputed) if "Saving" in line] == [
        "words",
        "counts",
    ]

    assert "\nCorruptCheckpointError: partition 1 of checkpoint 'words'" in damaged
    assert "\ndamaged: [DamagedPartition(index=1, " in damaged
    assert "Saving 1 of 4 partitions; partition 1 is damaged" in damaged
    assert damaged.endswith("\ndamaged: []\n")

    assert calls(independent) == []
    assert (
        done_names(root / "loud") == done_names(root / "quiet") == {"words", "counts"}
    )


# ---- legacy_functions ----


LEGACY_NAMES = [
    f"{prefix}_{step}"
    for prefix in ["text", "net"]
    for step in ["documents", "sentences", "terms", "edges", "weights"]
]


def test_legacy_functions_stop_at_the_halt_point_and_continue_from_there(
    tmp_path, capsys, monkeypatch
):
    root = tmp_path / "root"
    until = LEGACY_NAMES.index("net_sentences") + 1

    path = EXAMPLES / "legacy_functions.py"
    options = ["--root", str(root), "--halt-after", "net_sentences"]
    monkeypatch.setattr(sys, "argv", [str(path), *options])
    with dask.config.set(scheduler="sync"), pytest.raises(SystemExit) as halt:
        runpy.run_path(str(path), run_name="__main__")
    assert halt.value.code == 0
    output = capsys.readouterr().out
    assert output.endswith("\t- Halting\n")
    assert [name for name, _ in calls(output)] == LEGACY_NAMES[:until]
    assert {path.name for path in root.iterdir()} == set(LEGACY_NAMES[:until])
    before = files(root)

    resumed = run("legacy_functions", root)
    verbs = [line.split()[0] for _, (line, *_) in calls(resumed)]
    assert [name for name, _ in calls(resumed)] == LEGACY_NAMES
    assert verbs == ["Ready:"] * until + ["Saving"] * (len(LEGACY_NAMES) - until)
    assert before.items() <= files(root).items()
    assert done_names(root) == set(LEGACY_NAMES)
    assert re.search(
        r"\n[\d,]+ sentences in net_sentences and text_sentences\n$", resumed
    )


# ---- cluster_s3 ----


def run_cluster(*args):
    command = [sys.executable, EXAMPLES / "cluster_s3.py", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert (done.returncode, done.stderr) == (0, "")
    table = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+)$", done.stdout, re.MULTILINE)
    assert [name for name, *_ in table] == STEPS
    return done.stdout, [[int(figure) for figure in row[1:]] for row in table]


@pytest.mark.long
def test_cluster_s3_loses_a_worker_and_computes_little_again():
    output, table = run_cluster()
    for stored, begun, again in table:
        # A worker that dies had at most two tasks: one that ran, one that landed.
        assert stored <= begun <= stored + 2
        assert again == 0
    assert "Both passes agree: True" in output
    assert output.count("Killed 1 of 4 workers") == 1


@pytest.mark.long
@pytest.mark.parametrize("cloud", ["s3", "gcs"], indirect=True)
def test_cluster_s3_takes_a_bucket_and_a_cluster_that_it_is_given(cloud):
    from distributed import LocalCluster

    local = {"host": "127.0.0.1", "protocol": "tcp://"}
    local |= dict.fromkeys(
        ["dashboard_address", "worker_dashboard_address"], "127.0.0.1:0"
    )
    root, options = cloud.new_root(), json.dumps(cloud.options)
    with LocalCluster(n_workers=2, threads_per_worker=1, **local) as cluster:
        address = cluster.scheduler_address
        args = ["--scheduler", address, "--root", root, "--storage-options", options]
        output, table = run_cluster(*args)
    assert "Killed" not in output
    assert all(stored == begun for stored, begun, _ in table)
    assert CheckpointStore(root).names() == sorted(STEPS)


@pytest.mark.parametrize(
    "example",
    ["quickstart", "legacy_functions", "explicit_pipeline", "features_dataframe"],
)
def test_the_default_root_is_in_the_working_directory(example, tmp_path):
    """A folder that others can write to may hold what another person stored."""
    shown = run(example, tmp_path, "--help")
    assert re.search(r"\(default:[a-z]+-checkpoints\)", "".join(shown.split()))
