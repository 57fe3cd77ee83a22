"""The recipes for orchestrators run with the real packages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "how-to" / "orchestrators.md"
RECIPE = re.compile(
    r"<!-- exempt: needs (\w+);[^\n]*-->\n```python\n(.*?)^```$", re.M | re.S
)
RECIPES = dict(RECIPE.findall(PAGE.read_text("utf-8")))
LAST_LINE = {"dagster": "True", "prefect": "4", "kedro": "[1, 4, 1, 4]"}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("package", LAST_LINE)
def test_a_recipe_runs_with_the_real_package(tmp_path, package):
    python = tmp_path / "venv" / "bin" / "python"
    uv = [sys.executable, "-m", "uv", "-q"]
    subprocess.run(
        [*uv, "venv", tmp_path / "venv", "--python", sys.executable], check=True
    )
    subprocess.run(
        [*uv, "pip", "install", "--python", python, package, TOP], check=True
    )
    (tmp_path / "recipe.py").write_text(RECIPES[package])
    done = subprocess.run(
        [python, "recipe.py"],
        cwd=tmp_path,
        env={
            "HOME": str(tmp_path),
            "PATH": os.environ["PATH"],
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert LAST_LINE[package] in done.stdout.splitlines()
    assert (tmp_path / "checkpoints" / "lengths" / "__done__").exists()
