"""The environment files agree, and provenance says what it should and nothing private."""

from __future__ import annotations

import getpass
import json
import math
import platform
import re
import subprocess
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from crowdloc.core import provenance as environment
from crowdloc.core.errors import CrowdlocError
from crowdloc.core.files import read_json
from crowdloc.core.paths import RESULTS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# With all extras, which `test` names; what they say about each other is no package.
LISTED = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
REQUIRED = [line for line in LISTED if Requirement(line).name != "crowdloc"]
PINS = {
    canonicalize_name(name): version
    for name, _, version in (
        line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
}


def test_conda_file_installs_the_project_with_all_extras():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, section = conda["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    assert section["pip"] == ["--constraint constraints.txt", "--editable .[test]"]
    assert Requirement(EXTRAS["test"][0]).extras == set(EXTRAS) - {"test"}


@pytest.mark.parametrize("line", REQUIRED)
def test_pins_satisfy_pyproject(line):
    requirement = Requirement(line)
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_pins_are_exact_and_come_from_any_registry():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(PINS) == len(lines) > 150
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line  # no address, no +local build


def test_pins_cover_what_is_installed():
    """Everything that the project's packages pull in is pinned (other packages may be installed beside it)."""
    todo, seen = [canonicalize_name(Requirement(line).name) for line in REQUIRED], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # not for this platform
            continue
        for line in needed:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(requirement.name))
    assert sorted(seen - set(PINS)) == []


def test_wheel_ships_the_published_numbers():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"results/paper": "crowdloc/_paper"}


def test_describe_is_json_without_names_of_machine_or_user():
    facts = environment.describe()
    text = json.dumps(facts)
    for private in {platform.node(), getpass.getuser()} - {"root", "localhost"}:
        assert private not in text
    assert str(ROOT) not in text
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["torch"] == metadata.version("torch")
    assert facts["threads"] >= 1
    assert facts["memory_gib"] > 0
    assert "crowdloc" in environment.summary()


def test_versions_leave_out_what_is_absent():
    assert environment.versions(["numpy", "no-such-package"]) == {"numpy": metadata.version("numpy")}


def test_commit_marks_changes(tmp_path):
    assert environment.commit(tmp_path) is None

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.hooksPath=none"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    (tmp_path / "crowdloc").mkdir()
    (tmp_path / "crowdloc" / "a.py").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    clean = environment.commit(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (tmp_path / "note.txt").write_text("untracked, no code")
    assert environment.commit(tmp_path) == clean
    (tmp_path / "crowdloc" / "a.py").write_text("2")
    assert environment.commit(tmp_path) == clean + "+changes"


def test_what_is_described_and_measured_is_valid():
    facts = json.loads(json.dumps(environment.describe()))
    environment.validate(facts)
    environment.validate(facts | {"training_seconds": 1.5})
    with pytest.raises(CrowdlocError, match="a.json: the provenance has no field 'utc': "):
        environment.validate(facts, "a.json", measured=True)
    measured = json.loads(json.dumps(environment.measurement()))
    environment.validate(measured, measured=True)
    assert measured.keys() - facts.keys() == {"utc", "load"} | ({"clocks"} if facts["gpu"] else set())
    assert {name: measured[name] for name in facts} == facts


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("run.json")), ids=lambda p: "/".join(p.parts[-4:-1]))
def test_stored_provenance_is_valid(path):
    environment.validate(read_json(path), path)


@pytest.mark.parametrize("field", environment.describe())
def test_a_missing_field_is_named(field):
    facts = environment.describe()
    del facts[field]
    with pytest.raises(CrowdlocError, match=f"^x.json: the provenance has no field '{field}': ") as caught:
        environment.validate(facts, "x.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("crowdloc", 1),
        ("crowdloc", ""),
        ("commit", "main"),
        ("commit", "0" * 40 + "+more"),
        ("code", "0" * 15),
        ("code", None),
        ("python", None),
        ("packages", ["torch"]),
        ("packages", {}),
        ("packages", {"torch": 2}),
        ("system", None),
        ("processor", 7),
        ("cores", 2.0),
        ("cores", True),
        ("threads", 0),
        ("threads", None),
        ("threads", "2"),
        ("memory_gib", math.nan),
        ("memory_gib", math.inf),
        ("memory_gib", -1),
        ("memory_gib", True),
        ("gpu", False),
        ("utc", "yesterday"),
        ("utc", "2026-01-01T00:00:00"),
        ("utc", 0),
        ("load", None),
        ("clocks", 1980),
    ],
)
def test_a_field_of_a_wrong_type_is_named(field, value):
    with pytest.raises(CrowdlocError, match=f"^x.json: provenance field '{field}' is .*, not a.*: restore it"):
        environment.validate(environment.describe() | {field: value}, "x.json")


@pytest.mark.parametrize("record", [None, [], "text", 1])
def test_a_record_must_be_an_object(record):
    with pytest.raises(CrowdlocError, match="no JSON object"):
        environment.validate(record)
