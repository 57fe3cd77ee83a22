"""What ``--json`` prints has the schemas in the documentation."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.cli.cases import (
    damage_marker,
    damage_one_partition,
    family,
    fill,
    forbidden,
    make_unsupported,
    run,
    save,
    save_as_agatha,
)

# Read at once: some tests run as a user who may not read this repository.
SCHEMAS = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in (Path(__file__).parents[2] / "docs" / "schemas").glob("*.json")
}


def closed(schema):
    """The schema, of which no object has another property."""
    if isinstance(schema, list):
        return [closed(member) for member in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(member) for key, member in schema.items()}
    is_open = "properties" not in schema or not isinstance(schema.get("type"), str)
    return schema if is_open else schema | {"additionalProperties": False}


def printed(command, root, *arguments):
    """What a command printed, after comparing it with its schema."""
    document = json.loads(run(command, root, *arguments, "--json").stdout)
    schema = SCHEMAS[command]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, closed(schema), jsonschema.Draft202012Validator)
    return document


@pytest.fixture
def every_state(shared):
    """A root with a checkpoint in each state."""
    family(shared)
    save(shared, [{1, range}], name="pickled", allow_pickle=True)
    save(shared, "ab", name="labelled", version="2", metadata={"a": [None, 1.5]})
    save(shared, "ab", name="cut")
    save(shared, "ab", name="locked")
    save(shared, "ab", name="newer")
    save_as_agatha(shared, "old", b"not a pickle")
    damage_marker(shared, "cut")
    make_unsupported(shared, "newer")
    damage_one_partition(shared, "terms")
    for path in (shared / "documents").iterdir():
        path.unlink()
    with forbidden(shared / "locked" / "__done__"):
        yield shared


def test_ls_has_its_schema_in_every_state(every_state):
    found = {c["name"]: c["state"] for c in printed("ls", every_state)}
    states = {"done", "partial", "damaged", "unsupported", "unreadable"}
    assert set(found.values()) == states
    assert printed("ls", every_state, "nothing") == []


@pytest.mark.parametrize(
    "name",
    ["sentences", "terms", "pickled", "labelled", "cut", "newer", "old", "lines"],
)
def test_show_has_its_schema(every_state, name):
    assert printed("show", every_state, name)["name"] == name


@pytest.mark.parametrize("options", [[], ["--fast"], ["--allow-pickle"]])
def test_verify_has_its_schema_in_every_state(every_state, options):
    found = {c["name"]: c for c in printed("verify", every_state, *options)}
    assert found["locked"]["state"] == "unreadable"
    assert found["cut"]["checked"] is None
    if not options:
        [fault] = found["terms"]["partitions"]
        assert (found["terms"]["state"], fault["index"]) == ("damaged", 0)
        assert "checksum" in fault["reason"]
        assert found["old"]["checked"] == "presence"
    assert run("verify", every_state, "--json").exit_code == 1


def test_probe_has_its_schema(tmp_path):
    fill(tmp_path)
    assert printed("probe", tmp_path)["commit"] == "atomic"
