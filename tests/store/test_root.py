"""Roots: what is refused, and what is found below the rest."""

import os
import pickle
import zipfile
from pathlib import Path

import dask.bag
import fsspec
import pytest

from agatha_ckpt import Checkpointer, CheckpointStore, RootNotSetError

BAG = dask.bag.from_sequence(range(4), npartitions=2)
# Of a pathlib.Path they are the same.
PROTOCOLS = sorted(fsspec.available_protocols())


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refusal(root):
    with pytest.raises(RootNotSetError) as caught:
        CheckpointStore(root)
    assert os.listdir() == []
    return str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_url_that_pathlib_made_a_path_is_refused_with_the_url(protocol):
    url = f"{protocol}://bucket/run"
    there = f"{protocol}:///bucket/run" if protocol in ("file", "local") else url
    for path in (
        Path(url),
        Path(f"{protocol}://bucket") / "run",
        Path(url).absolute(),
        f"{protocol}:/bucket/run",
        f"{protocol}:bucket/run",
        f"dir::{protocol}:/bucket/run",
    ):
        assert f"give '{there}' as a str" in refusal(path)


@pytest.mark.parametrize(
    "root, why",
    [
        ("memory://a//b", "cannot contain '//'"),
        ("memory://a/../b", "'/../'; write it without"),
        ("memory://a/.", "'/./'"),
        ("dir://a//b::file:///tmp", "cannot contain '//'"),
        ("run::1", "makes a chain"),
        ("/data/run::1", "makes a chain"),
        ("::memory://a", "makes a chain"),
        ("memory://a::", "makes a chain"),
        ("memory://a::b", "makes a chain"),
        ("dir://a::", "makes a chain"),
        ("dir://a", "cannot be used"),
        ("zip://a::nosuch.zip", "cannot be used"),
        (f"zip://a::{__file__}", "cannot be used"),
        (f"tar://a::{__file__}", "cannot be used"),
        ("s3://", "names no bucket; write it as s3://bucket/run-1"),
        ("s3:///bucket/run", "names no bucket"),
        ("gs://", "names no bucket"),
        ("file://", "names no folder"),
        ("file://localhost/run", "write it as 'file:///run'"),
        ("dir::file://localhost/run", "write it as 'file:///run'"),
        ("https://host/run?key=secret", "has a query"),
        ("https://host/run#part", "has a query"),
        (" run", "white space"),
        ("run\n", "white space"),
        (r"C:\data\run", "path of Windows"),
        ("C:/data/run", "path of Windows"),
        (r"\\server\share", "path of Windows"),
    ],
)
def test_a_root_where_nothing_would_be_found_is_refused(root, why):
    said = refusal(root)
    assert why in said
    assert "secret" not in said


UNUSUAL = [
    "a b",
    "ह é",
    "a?b",
    "a#b",
    "a%20b",
    "a*b",
    "[ab]",
    "{a}",
    "~",
    "a&b=c",
    "a:b",
]
ROOTS = [
    *(f"/{name}/run" for name in [*UNUSUAL, os.fsdecode(b"\xff")]),
    *(f"memory://unusual/{name}" for name in UNUSUAL),
    *("relative", "./relative/", "relative//inner///", "relative/../other", "."),
    *("file://relative", "memory://unusual/", "memory://", "memory:///"),
    *("dir::file://{}/run", "dir://inner::file://{}", "file://{}/a?b", "s3/bucket:"),
]


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_keeps_and_finds_what_was_saved(root, tmp_path):
    root = root.replace("{}", str(tmp_path))
    check(f"{tmp_path}{root}" if root.startswith("/") else root)


@pytest.mark.parametrize("name", [*UNUSUAL, ""])
def test_a_bucket_keeps_and_finds_what_was_saved(name, s3):
    check(f"s3://{s3.name}/{name}")


def test_a_directory_without_a_path_of_its_own_is_the_filesystem_behind(tmp_path):
    plain = Checkpointer(tmp_path / "run", verbose=False)
    plain.checkpoint("x", BAG, scheduler="sync")
    with zipfile.ZipFile("a.zip", "w") as archive:
        for path in (tmp_path / "run").rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    for behind in (f"file://{tmp_path}/run", "file://run", "run", "zip://run::a.zip"):
        for root in (f"dir::{behind}", f"dir://::{behind}"):
            assert CheckpointStore(root).names() == ["x"]
            assert CheckpointStore(CheckpointStore(root).url).names() == ["x"]


def test_an_error_of_the_connection_names_the_root():
    root = "ftp://user:secret@127.0.0.1:1/run"
    with pytest.raises(ConnectionError) as caught:
        CheckpointStore(root)
    [note] = caught.value.__notes__
    assert note.startswith("while opening the root 'ftp://")
    assert "secret" not in note


def check(root):
    ckpt = Checkpointer(root, verbose=False)
    store = ckpt.store
    ckpt.checkpoint("x", BAG, scheduler="sync")
    try:
        for other in (pickle.loads(pickle.dumps(store)), CheckpointStore(store.url)):
            assert other == store
            assert other.names() == ["x"]
        assert store.path(store.path("x")) == store.path("x")
        part = store.manifest("x").partitions[1].file
        store.fs.rm_file(f"{store._root.folder('x')}/{part}")
        assert [damaged.index for damaged in store.verify("x")] == [1]
    finally:
        store.clear_all()
    assert store.names() == []
    assert store.status("x").state == "absent"


def test_places_below_a_relative_root_hold_after_chdir(tmp_path, monkeypatch):
    store = CheckpointStore("root")
    places = [store.path("x"), store.done_marker("x")]
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir("inner")
    assert places == [store.path("x"), store.done_marker("x")]
    assert places[0] == tmp_path / "root" / "x"
    assert store.root == Path("root")
    assert store.path("root/x") == places[0]


def test_chained_urls_work_in_other_processes(tmp_path):
    here = {"scheduler": "processes", "num_workers": 1}
    chained = Checkpointer(f"dir://root::file://{tmp_path}", verbose=False)
    assert chained.checkpoint("x", BAG, **here).compute(**here) == [0, 1, 2, 3]
    with zipfile.ZipFile("archive.zip", "w") as archive:
        for path in Path("root").rglob("*"):
            archive.write(path)
    archived = Checkpointer(f"zip://root::{tmp_path}/archive.zip", verbose=False)
    assert archived.store.path("x") == f"zip://root/x::{tmp_path}/archive.zip"
    assert archived.names() == ["x"]
    assert archived.checkpoint("x").compute(**here) == [0, 1, 2, 3]


def test_memory_behind_a_chained_url_is_of_one_process():
    ckpt = Checkpointer("dir::memory://chained", verbose=False)
    with pytest.raises(RootNotSetError, match="in the memory of"):
        ckpt.checkpoint("x", BAG, scheduler="processes", num_workers=1)
