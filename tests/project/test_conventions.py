"""Rules for the source that no linter checks."""

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "agatha_ckpt"
MODULES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((TOP / "tests").rglob("*.py"))
PROSE = [
    TOP / "README.md",
    *MODULES,
    *PACKAGE.rglob("*.html"),
    *PACKAGE.rglob("*.yaml"),
    *(TOP / "examples").glob("*.py"),
    *(TOP / "docs").rglob("*.md"),
]
PHRASES = re.compile(
    r"\b(goes on|nobody|whoever|all the same|half a sentence)\b"
    r"|(?<!there )\b(is|are|was|were) no (?!longer|more|less)",
    re.IGNORECASE,
)


def test_a_module_has_at_most_400_lines():
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {path: n for path, n in lines.items() if n > 400} == {}


def test_the_package_has_at_most_20_entries():
    entries = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= 20, entries


def test_modules_inside_a_subpackage_have_plain_names():
    inside = [path.stem for path in MODULES if path.parent != PACKAGE]
    outside = [path.stem for path in MODULES if path.parent == PACKAGE]
    assert [n for n in inside if n.startswith("_") and n != "__init__"] == []
    assert [n for n in outside if not n.startswith("_")] == []


def test_prose_uses_standard_words():
    found = []
    for path in PROSE:
        text = re.sub(r"\s+(# +)?", " ", path.read_text("utf-8"))
        found += [
            f"{path.relative_to(TOP)}: {text[max(m.start() - 40, 0) : m.end() + 20]}"
            for m in PHRASES.finditer(text)
        ]
    assert found == []


def private_patches(source):
    """Yield the lines that replace a private name of the package."""
    tree = ast.parse(source)
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {a.asname or a.name: node.module for a in node.names}
        elif isinstance(node, ast.Import):
            modules |= {a.asname or a.name: a.name for a in node.names if a.asname}
    modules["agatha_ckpt"] = "agatha_ckpt"
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        called = ast.unparse(node.func).rpartition(".")[2]
        if called not in ("setattr", "delattr", "patch", "object"):
            continue
        target, *names = (ast.unparse(argument).strip("'\"") for argument in node.args)
        root, _, rest = target.partition(".")
        full = ".".join([modules.get(root, root), root, rest, *names[:1]])
        if full.startswith("agatha_ckpt") and re.search(r"\._(?!_)", full):
            yield node.lineno


def test_no_test_replaces_a_private_name_of_the_package():
    found = {
        f"{path.relative_to(TOP)}:{line}"
        for path in TESTS
        for line in private_patches(path.read_text("utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    "code",
    [
        "monkeypatch.setattr('agatha_ckpt._store.commit.commit', None)",
        "monkeypatch.setattr(agatha_ckpt._facade, 'ckpt', None)",
        "from agatha_ckpt._store import commit\nm.setattr(commit, 'commit', None)",
        "from agatha_ckpt import Checkpointer\nm.setattr(Checkpointer, '_save', None)",
        "mock.patch.object(agatha_ckpt, '_facade')",
    ],
)
def test_a_replaced_private_name_is_found(code):
    assert list(private_patches(code))
