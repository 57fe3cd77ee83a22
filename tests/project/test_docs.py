"""The code of the documentation runs and prints the output that is shown."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import agatha_ckpt
from agatha_ckpt import testing
from tests.project.docs_blocks import RUN, blocks_of, check_data, normal, outputs_of

TOP = Path(__file__).parents[2]
PAGES = [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]
DATA = ("json", "yaml")
SHOWN = ("text", "", "{toctree}", "{eval-rst}", "{include}", "{literalinclude}")


def name_of(page):
    return str(page.relative_to(TOP))


def has_run(page):
    return any(block.runs for block in blocks_of(page.read_text(encoding="utf-8")))


def test_each_block_is_run_or_has_a_reason_not_to_be():
    for page in PAGES:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            language, where = block.language.split(" ")[0], (page, block.line)
            assert language in (*RUN, *DATA, *SHOWN), where
            if "exempt" in block.notes:
                assert len(block.notes["exempt"]) > 10, where
            check_data(block)


@pytest.mark.parametrize("page", [p for p in PAGES if has_run(p)], ids=name_of)
def test_the_blocks_of_a_page_run_and_print_the_output_shown(page):
    blocks = blocks_of(page.read_text(encoding="utf-8"))
    for block, output in zip(blocks, outputs_of(page), strict=True):
        if block.output is not None:
            assert normal(output) == normal(block.output), f"line {block.line}"


def names_in(blocks, context):
    trees = [ast.parse(block.code) for block in blocks]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    found = {n.id for n in nodes if isinstance(n, ast.Name) and type(n.ctx) is context}
    if context is ast.Store:
        imports = (n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom)))
        aliases = [alias for node in imports for alias in node.names]
        found |= {a.asname or a.name.partition(".")[0] for a in aliases}
        definitions = (ast.FunctionDef, ast.ClassDef)
        found |= {n.name for n in nodes if isinstance(n, definitions)}
        found |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if has_run(p)], ids=name_of)
def test_the_blocks_of_a_page_can_be_pasted_without_what_is_hidden(page):
    blocks = [b for b in blocks_of(page.read_text("utf-8")) if b.runs]
    python = [b for b in blocks if b.language == "python"]
    hidden = [b for b in python if "hidden" in b.notes]
    shown = [b for b in python if "hidden" not in b.notes]
    missing = names_in(shown, ast.Load) - names_in(shown, ast.Store)
    assert missing & names_in(hidden, ast.Store) == set()


@pytest.mark.parametrize("options", [["first.py"], ["-i"]], ids=["script", "pasted"])
def test_the_first_block_of_the_readme_runs_by_itself(tmp_path, options):
    page = (TOP / "README.md").read_text(encoding="utf-8")
    first = next(b for b in blocks_of(page) if b.language == "python")
    (tmp_path / "first.py").write_text(first.code)
    done = subprocess.run(
        [sys.executable, *options],
        cwd=tmp_path,
        input=first.code,
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("4\n"), done.stderr
    assert "Error" not in done.stderr
    assert (tmp_path / "checkpoints" / "sentences" / "__done__").exists()


def test_another_output_or_error_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nprint('one', 12)\n```\n\n```text\none 13\n```\n\n"
        "<!-- raises: KeyError -->\n```python\n{}[1]\n```\n\n"
        "```sh\nexit 1\n```\n"
    )
    first, raising, last = blocks_of(page.read_text())
    assert normal(first.output) == normal("one 12")
    assert normal(first.output) != normal("two 12")
    assert raising.notes == {"raises": "KeyError"}
    assert last.runs
    with pytest.raises(AssertionError, match=r"line 14 of .*page\.md failed"):
        outputs_of(page)


def texts_of(source):
    """Return the texts of a module, with ``…`` for names and figures."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [
                p.value if isinstance(p, ast.Constant) else "…" for p in node.values
            ]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


def test_each_message_that_is_explained_is_in_the_source():
    page = (TOP / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### `(.*)`$", page, re.MULTILINE)
    table = (TOP / "docs" / "more-errors.md").read_text(encoding="utf-8")
    headings += re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    assert len(headings) > 50
    sources = (TOP / "agatha_ckpt").rglob("*.py")
    texts = [t for s in sources for t in texts_of(s.read_text(encoding="utf-8"))]
    for heading in headings:
        pieces = [piece.strip() for piece in heading.split("…") if piece.strip(" :,")]
        assert any(all(p in text for p in pieces) for text in texts), heading


LINK = re.compile(r"(?<!`)\[[^\[\]]*\]\(([^()\s]+)\)")


def anchors_of(page):
    """Return the anchors that GitHub and Sphinx give to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_to_a_file_and_a_heading(page):
    for link in LINK.findall(page.read_text("utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_the_list_of_questions_has_the_title_of_each_page():
    folder = TOP / "docs" / "how-to"
    listed = re.findall(
        r"^- \[(.*)\]\((.*)\)$", (folder / "index.md").read_text(), re.M
    )
    questions = {
        file: text for text, file in listed if (folder / file).parent == folder
    }
    titles = {
        page.name: page.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        for page in folder.glob("*.md")
        if page.name != "index.md"
    }
    assert questions == titles
    assert all(title.endswith("?") for title in titles.values())


LONG = ["benchmarks", "changelog", "example-session", "format", "reliability-results"]


def test_pages_are_short():
    lines = {name_of(p): len(p.read_text("utf-8").splitlines()) for p in PAGES}
    assert lines.pop("README.md") <= 150
    long = {name for name, count in lines.items() if count > 200}
    assert long <= {f"docs/{name}.md" for name in LONG}


def test_the_reference_documents_exactly_the_public_names():
    page = (TOP / "docs" / "api.md").read_text("utf-8")
    documented = re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE)
    assert sorted(documented) == sorted(agatha_ckpt.__all__ + testing.__all__)


def test_what_public_methods_return_is_documented():
    found = set()
    for owner in (agatha_ckpt.Checkpointer, agatha_ckpt.CheckpointStore):
        for name, member in vars(owner).items():
            function = member.fget if isinstance(member, property) else member
            if not name.startswith("_") and inspect.isfunction(function):
                returned = inspect.signature(function).return_annotation
                found |= {*re.findall(r"\b[A-Z]\w+", str(returned))}
    assert "Partition" in found
    assert found - {
        "AbstractFileSystem",
        "Any",
        "Iterator",
        "None",
        "Path",
        "Self",
    } <= {*agatha_ckpt.__all__}
