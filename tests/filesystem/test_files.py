"""What every implementation of `Files` does."""

import os
import time

import pytest

EVERY_SERVER = True


def test_a_published_file_is_read_whole_and_in_pieces(place):
    content = bytes(range(256)) * 8
    path = place.write("a", content)
    size = len(content)
    assert place.files.read(path) == content
    assert place.files.tail(path, size, 100) == content[-100:]
    assert place.files.tail(path, size, 2 * size) == content
    for piece in (0, 500):
        with place.files.open(path, size, piece) as file:
            assert file.read(700) == content[:700]
            file.seek(100)
            assert file.read(700) == content[100:800]
            file.seek(-10, os.SEEK_END)
            assert file.read() == content[-10:]


def test_only_an_absent_file_raises_file_not_found(place):
    place.write("a", b"1")
    for path in (place.path("b"), f"{place.folder}-2/a", place.path("a/b")):
        with pytest.raises(FileNotFoundError):
            place.files.read(path)
    with pytest.raises(FileNotFoundError):
        place.files.tail(place.path("b"), 1_000, 57)


@pytest.mark.parametrize("root", ["s3", "s3-rclone", "gcs", "azure"], indirect=True)
def test_a_range_beyond_the_end_is_empty_P5(place):
    """Each server refuses it with an error of its own."""
    for content in (b"", b"abc"):
        path = place.write("a", content)
        assert place.files.tail(path, 1_000, 57) == b""
        with place.files.open(path, 20 << 20) as file:
            assert file.read(10) == content
            file.seek(-57, os.SEEK_END)
            assert file.read() == b""


def test_a_writer_that_raises_leaves_no_file(place):
    def write(file):
        file.write(b"half")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        place.files.publish(place.folder, write)
    assert place.files.list(place.folder) == {}


def test_a_listing_names_the_files_of_one_folder(place):
    began = time.time()
    files, folder = place.files, place.folder
    assert files.list(f"{folder}-absent") == {}
    place.write("a", b"123")
    place.write("b", b"")
    for other in (f"{folder}/below", f"{folder}y"):
        files.make_folder(other)
        files.publish(other, lambda file: "c")
    listed = files.list(folder)
    assert {name: info.bytes for name, info in listed.items()} == {"a": 3, "b": 0}
    # To the second on some servers.
    assert began - 2 <= listed["a"].modified <= time.time() + 2
    root = os.path.dirname(folder)
    assert sorted(files.folders(root, links=True)) == ["x", "xy"]
    assert files.folders(f"{folder}-absent", links=True) == []


@pytest.mark.parametrize("folder", ["plain", "a[b]c*"])
def test_files_are_removed_by_name(request, place, folder):
    if "*" in folder and "smb" in request.node.name:
        pytest.skip("SMB has no such names")
    files, root = place.files, os.path.dirname(place.folder)
    folder, neighbour = f"{root}/{folder}", f"{root}/abcd"
    files.remove(folder, ["absent"])
    for each in (folder, neighbour):
        files.make_folder(each)
        for name in ("a", "b", "c", "d"):
            files.publish(each, lambda file, name=name: name)
    files.remove(folder, [])
    files.remove(folder, ["a"])
    files.remove(folder, ["b", "absent", "a", "c"])
    assert list(files.list(folder)) == ["d"]
    assert sorted(files.list(neighbour)) == ["a", "b", "c", "d"]


# A deletion on WebDAV would remove files too; sshfs removes none; SeaweedFS does later.
KEEPS_FOLDERS = {"webdav", "sshfs", "s3-seaweedfs"}


def test_only_an_empty_folder_is_removed(request, place):
    files, folder = place.files, place.folder
    files.make_folder(folder)
    path = place.write("a", b"1")
    files.remove_folder(folder)
    assert files.read(path) == b"1"
    files.remove(folder, ["a"])
    files.remove_folder(folder)
    files.remove_folder(folder)
    left = files.folders(os.path.dirname(folder), links=True)
    assert left == [] or request.node.callspec.params["root"] in KEEPS_FOLDERS
