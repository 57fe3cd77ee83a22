"""The tree of errors, and their way through pickles and back from workers."""

import copy
import copyreg
import pickle
import subprocess
import sys

import pytest

import agatha_ckpt

TREE = {
    "CheckpointError": [Exception],
    "RootNotSetError": ["CheckpointError", RuntimeError],
    "InvalidNameError": ["CheckpointError", ValueError],
    "InvalidValueError": ["CheckpointError", ValueError],
    "CheckpointNotFoundError": ["CheckpointError", FileNotFoundError],
    "CorruptCheckpointError": ["CheckpointError"],
    "EncodeError": ["CheckpointError", TypeError],
    "PickleNotAllowedError": ["CheckpointError"],
    "CheckpointConflictError": ["CheckpointError"],
    "UnsupportedFormatError": ["CheckpointError"],
    "ClusterError": ["CheckpointError", RuntimeError],
    "PartitionsFailedError": ["CheckpointError", ExceptionGroup],
    "CheckpointHalt": [SystemExit],
    "StaleCheckpointWarning": [UserWarning],
}
MESSAGE = "checkpoint 'one' under 'root' is not done; give the collection — or clear it"


def is_error(value):
    return isinstance(value, type) and issubclass(value, BaseException)


def test_the_tree_is_the_documented_one():
    public = {name: getattr(agatha_ckpt, name) for name in agatha_ckpt.__all__}
    errors = {name: value for name, value in public.items() if is_error(value)}
    assert set(errors) == set(TREE)
    for name, parents in TREE.items():
        expected = [errors[p] if isinstance(p, str) else p for p in parents]
        assert list(errors[name].__bases__) == expected


def test_a_halt_is_no_error_and_ends_with_status_0():
    assert not issubclass(agatha_ckpt.CheckpointHalt, Exception)
    for halt in (agatha_ckpt.CheckpointHalt(), agatha_ckpt.CheckpointHalt(MESSAGE)):
        assert halt.code == 0


@pytest.fixture(params=["plain", "tblib"])
def _pickling(request, monkeypatch):
    # Where tblib is installed, dask has it take over how exceptions are pickled.
    errors = [getattr(agatha_ckpt, name) for name in TREE]
    if request.param == "plain":
        for error in errors:
            monkeypatch.delitem(copyreg.dispatch_table, error, raising=False)
        return
    support = pytest.importorskip("tblib.pickling_support")
    for error in errors:
        monkeypatch.setitem(copyreg.dispatch_table, error, support.pickle_exception)


@pytest.mark.usefixtures("_pickling")
@pytest.mark.parametrize("name", [n for n in TREE if n != "PartitionsFailedError"])
def test_it_survives_pickle_and_copy_with_type_message_and_notes(name):
    error = getattr(agatha_ckpt, name)(MESSAGE)
    error.add_note("while saving partition 3")
    again = [
        pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ]
    for copied in [*again, copy.copy(error), copy.deepcopy(error)]:
        assert type(copied) is type(error)
        assert copied.args == (MESSAGE,)
        assert str(copied) == MESSAGE
        assert copied.__notes__ == ["while saving partition 3"]
        assert getattr(copied, "code", 0) == 0


@pytest.mark.usefixtures("_pickling")
def test_a_group_keeps_the_numbers_of_its_partitions():
    shared = ValueError("of two")
    partitions = {2: shared, 5: shared, 7: KeyError("of one")}
    error = agatha_ckpt.PartitionsFailedError.of(MESSAGE, partitions)
    assert error.partitions == partitions
    assert error.exceptions == tuple(partitions.values())
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(copied) is type(error)
        assert str(copied) == str(error)
        assert list(copied.partitions) == [2, 5, 7]
        assert copied.partitions[2] is copied.partitions[5]
        assert copied.exceptions == tuple(copied.partitions.values())
    values, keys = error.split(ValueError)
    assert (list(values.partitions), list(keys.partitions)) == ([2, 5], [7])


@pytest.mark.parametrize("name", TREE)
def test_it_has_a_docstring_of_its_own(name):
    parents = getattr(agatha_ckpt, name).__bases__
    assert getattr(agatha_ckpt, name).__doc__ not in {p.__doc__ for p in parents}


# What workers raise: our own error, one of a bag's function, one of its own making.
SCRIPT = """\
import sys

if sys.argv[2] == "without":
    sys.modules["tblib"] = None  # importing it fails, in the workers too

import dask.bag
from agatha_ckpt import Checkpointer, EncodeError


class OwnError(Exception):
    pass


def fail_with(error):
    raise error


def make(_):
    return object()


def expect(error_type, pieces, name, value, function):
    bag = dask.bag.from_sequence([value], npartitions=1).map(function)
    try:
        checkpointer.checkpoint(name, bag, scheduler="processes", num_workers=1)
    except Exception as error:
        assert type(error) is error_type, type(error).__mro__
        for piece in pieces:
            assert piece in str(error), str(error)
        notes = "".join(error.__notes__)
        assert notes == f"0 of 1 partition stored; partition 0 of {name!r} failed"
        assert "File" in str(error.__cause__) or error.__traceback__.tb_next
        print("as it was")
    else:
        raise AssertionError("nothing was raised")


if __name__ == "__main__":
    checkpointer = Checkpointer(sys.argv[1], verbose=False)
    expect(EncodeError, ["partition 0", "object", "'objects'"], "objects", 1, make)
    expect(KeyError, ["'no such key'"], "keys", KeyError("no such key"), fail_with)
    expect(OwnError, ["my message"], "own", OwnError("my message"), fail_with)
"""


@pytest.mark.parametrize(
    "tblib", ["with", pytest.param("without", marks=pytest.mark.long)]
)
def test_an_error_of_a_worker_process_keeps_type_and_message(tmp_path, tblib):
    """P5: what a worker raises is never a foreign exception type here."""
    if tblib == "with":
        pytest.importorskip("tblib")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path / "root"), tblib]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["as it was"] * 3
