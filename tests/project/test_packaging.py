"""The package as it is installed and imported, and the repository around it."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import agatha_ckpt.testing

REPOSITORY = Path(__file__).parents[2]
# Print what importing the package writes and loads, then what importing the rest of it
# does to the public names.
IMPORT = """\
import importlib
import json
import os
import pkgutil
import sys

touched = []
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OTHER = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink",
         "os.truncate", "socket.connect", "subprocess.Popen")

def watch(event, arguments):
    if event == "open" and arguments[2] & WRITES or event in OTHER:
        touched.append([event, str(arguments[0])])

sys.addaudithook(watch)
import agatha_ckpt
before = {name: getattr(agatha_ckpt, name) for name in agatha_ckpt.__all__}
loaded = sorted(sys.modules)
for module in pkgutil.walk_packages(agatha_ckpt.__path__, "agatha_ckpt."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
public = {name for name in vars(agatha_ckpt) if not name.startswith("_")} - {"testing"}
same = all(getattr(agatha_ckpt, name) is value for name, value in before.items())
print(json.dumps([touched, loaded, same and public <= set(before)]))
"""
HEAVY = {"adlfs", "aiohttp", "click", "dask", "distributed", "gcsfs", "jinja2", "numpy"}
HEAVY |= {"pandas", "s3fs", "tqdm"}


def test_all_is_sorted_and_names_everything_that_is_public():
    public = {name for name in dir(agatha_ckpt) if not name.startswith("_")}
    assert agatha_ckpt.__all__ == sorted(agatha_ckpt.__all__)
    assert public - {"testing"} <= set(agatha_ckpt.__all__)


def test_every_public_name_is_documented():
    for module in (agatha_ckpt, agatha_ckpt.testing):
        assert [n for n in module.__all__ if not getattr(module, n).__doc__] == []


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("import")
    done = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(folder.iterdir()) == []
    return json.loads(done.stdout)


def test_importing_the_package_loads_nothing_heavy_and_writes_nothing(imported):
    touched, loaded, _ = imported
    assert touched == []
    assert set(loaded) & HEAVY == set()


def test_importing_every_submodule_changes_no_public_name(imported):
    # A submodule called checkpoint would replace the function of that name.
    assert imported[2]


@pytest.fixture(scope="module")
def project():
    path = REPOSITORY / "pyproject.toml"
    return tomllib.loads(path.read_text("utf-8"))["project"]


def test_the_version_is_that_of_the_project(project):
    assert importlib.metadata.version("agatha-ckpt") == project["version"]
    assert agatha_ckpt.__version__ == project["version"]


def test_every_dependency_has_a_lower_bound(project):
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(r for e in extras.values() for r in e)]
    assert [r for r in wanted if ">=" not in r] == []


def test_the_package_is_marked_as_typed():
    assert Path(agatha_ckpt.__file__).with_name("py.typed").is_file()


def test_the_top_level_of_the_repository_holds_only_what_belongs_there():
    ignored = (REPOSITORY / ".gitignore").read_text("utf-8").split()
    patterns = [".*", *(line.strip("/") for line in ignored)]
    found = {
        name
        for name in os.listdir(REPOSITORY)
        if not any(fnmatch(name, pattern) for pattern in patterns)
    }
    files = {"LICENSE", "README.md", "pyproject.toml"}
    assert found == files | {"agatha_ckpt", "docs", "examples", "tests"}
