"""The package as it is installed and imported, and the repository around it."""

import ast
import importlib.metadata
import json
import os
import pkgutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

import agatha_ckpt
from agatha_ckpt._format.manifest import library_version

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(agatha_ckpt.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))
MOST_LINES = 440


def test_all_is_sorted_and_names_everything_that_is_public():
    public = [name for name in vars(agatha_ckpt) if not name.startswith("_")]
    assert sorted(public) == agatha_ckpt.__all__


def test_every_public_name_is_documented():
    assert [n for n in agatha_ckpt.__all__ if not getattr(agatha_ckpt, n).__doc__] == []


def test_every_submodule_has_an_underscore():
    # A submodule called checkpoint would replace the function when it is imported.
    found = [module.name for module in pkgutil.iter_modules(agatha_ckpt.__path__)]
    assert "_facade" in found
    assert [name for name in found if not name.startswith("_")] == []


def test_after_importing_every_submodule_the_public_names_are_the_same():
    code = (
        "import importlib, pkgutil, sys, agatha_ckpt\n"
        "before = {n: getattr(agatha_ckpt, n) for n in agatha_ckpt.__all__}\n"
        "for module in pkgutil.iter_modules(agatha_ckpt.__path__):\n"
        "    if module.name != '__main__':\n"
        "        importlib.import_module('agatha_ckpt.' + module.name)\n"
        "after = {n for n in vars(agatha_ckpt) if not n.startswith('_')}\n"
        "sys.exit(after != set(before) or\n"
        "         any(getattr(agatha_ckpt, n) is not v for n, v in before.items()))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def project():
    path = REPOSITORY / "pyproject.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["project"]


def test_the_version_is_that_of_the_project(project):
    installed = importlib.metadata.version("agatha-ckpt")
    assert installed == project["version"]
    assert library_version() == installed


def test_every_optional_dependency_has_a_lower_bound(project):
    extras = project["optional-dependencies"]
    assert set(extras) >= {"s3", "gcs", "azure", "distributed"}
    wanted = [*project["dependencies"], *(r for e in extras.values() for r in e)]
    assert [r for r in wanted if ">=" not in r] == []


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


IMPORT = """\
import json
import os
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
print(json.dumps([touched, sorted(sys.modules)]))
"""


def test_importing_it_imports_nothing_heavy_and_touches_nothing(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    touched, modules = json.loads(ended.stdout)
    assert touched == []
    assert list(tmp_path.iterdir()) == []
    assert "agatha_ckpt._store.store" in modules
    heavy = {"distributed", "numpy", "pandas", "s3fs", "gcsfs", "adlfs", "aiohttp"}
    assert heavy & set(modules) == set()


def test_the_top_level_of_the_repository_holds_only_what_belongs_there():
    ignored = (REPOSITORY / ".gitignore").read_text(encoding="utf-8").split()
    patterns = [".*", *(line.strip("/") for line in ignored)]
    found = {
        name
        for name in os.listdir(REPOSITORY)
        if not any(fnmatch(name, pattern) for pattern in patterns)
    }
    files = {"LICENSE", "README.md", "pyproject.toml"}
    assert found == files | {"agatha_ckpt", "docs", "examples", "tests"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_module_is_much_longer_than_400_lines(module):
    assert len(module.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def calls_of(module, name):
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == name
    ]


def test_only_progress_and_the_command_line_print():
    printing = {module.name for module in MODULES if calls_of(module, "print")}
    assert printing <= {"_progress.py", "_cli.py"}
    assert "_progress.py" in printing
