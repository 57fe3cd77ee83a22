"""Each row of the comparison names a test that exists, or has a reason for a no."""

import ast
import re
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "compared.md").read_text("utf-8")
ROWS = re.findall(r"^\| (\d+) \| (.*) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def functions_of(file):
    tree = ast.parse((TOP / file).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_rows_are_numbered_without_a_gap():
    assert [int(number) for number, *_ in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) >= 66


def test_each_answer_has_tests_that_exist_or_a_reason():
    for number, _, answer, _ in ROWS:
        tests = TEST.findall(answer)
        assert answer.count("::") == len(tests), number
        for file, name in tests:
            assert name in functions_of(file), (number, name)
        if not tests:
            assert re.fullmatch(r"\*\*no\*\*: .{20,}", answer), number


def test_each_row_has_an_answer_for_others_and_each_code_has_a_source():
    sources = PAGE.partition("## Sources")[2]
    for number, _, _, others in ROWS:
        assert others, number
        for codes in re.findall(r"\[([A-Z]\d(?:,[A-Z]\d)*)\]", others):
            for code in codes.split(","):
                assert re.search(rf"\b{code}\b", sources), (number, code)
