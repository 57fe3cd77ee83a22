"""Compare-and-swap of one file, on each filesystem where it is atomic."""

from concurrent.futures import ThreadPoolExecutor

import pytest

pytestmark = pytest.mark.parametrize(
    "root", ["local", "memory", "s3", "s3-seaweedfs", "gcs", "azure"], indirect=True
)


def test_a_file_is_swapped_only_if_it_is_what_was_expected(place):
    files, path = place.files, place.path("marker")
    assert files.atomic_swap(place.folder)
    for data in (b"1", None):
        assert not files.swap(path, b"0", data)
    assert files.list(place.folder) == {}

    assert files.swap(path, None, b"1")
    assert files.read(path) == b"1"
    for expected in (None, b"", b"0", b"12"):
        for data in (b"2", None):
            if expected is data is None:
                continue
            assert not files.swap(path, expected, data)
            assert files.read(path) == b"1"

    assert files.swap(path, b"1", b"2")
    assert files.read(path) == b"2"
    assert not files.swap(path, b"1", b"3")  # stale
    assert not files.swap(path, b"1", None)
    assert files.read(path) == b"2"

    assert files.swap(path, b"2", None)
    assert not files.swap(path, b"2", None)
    assert files.list(place.folder) == {}
    assert files.swap(path, None, b"1")


def test_of_files_created_at_once_one_wins(place):
    files, path = place.files, place.path("marker")
    rivals = [b"%d" % number for number in range(8)]
    with ThreadPoolExecutor(len(rivals)) as pool:
        won = list(pool.map(lambda data: files.swap(path, None, data), rivals))
    assert [data for data, first in zip(rivals, won, strict=True) if first] == [
        files.read(path)
    ]


def test_no_swap_of_several_threads_is_lost(place):
    files, path = place.files, place.path("counter")
    files.swap(path, None, b"0 by -")

    def count(thread):
        for _ in range(5):
            while True:
                seen = files.read(path)
                number = int(seen.split()[0]) + 1
                if files.swap(path, seen, b"%d by %d" % (number, thread)):
                    break

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(count, range(3)))
    assert files.read(path).startswith(b"15 by ")
