"""A folder on each filesystem, reached through `Files`."""

from dataclasses import dataclass

import pytest

from agatha_ckpt._filesystem.base import Files
from agatha_ckpt._filesystem.factory import files_for, filesystem_of


@dataclass
class Place:
    """A folder that exists where the filesystem has folders."""

    files: Files
    folder: str

    def path(self, name):
        return f"{self.folder}/{name}"

    def write(self, name, content):
        """Publish a file and return its path."""

        def write(file):
            file.write(content)
            return name

        assert self.files.publish(self.folder, write) == name
        return self.path(name)


def place_at(url, **options):
    """Return the folder *x* below a root."""
    fs, path = filesystem_of(url, options)
    place = Place(files_for(fs, fsync=True), f"{path}/x")
    place.files.make_folder(place.folder)
    return place


@pytest.fixture
def place(root):
    return place_at(root)
