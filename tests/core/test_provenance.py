"""The environment files agree, and provenance says what it should and nothing private."""

from __future__ import annotations

import getpass
import json
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
from crowdloc.core.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
PINS = {
    canonicalize_name(name): version
    for name, _, version in (
        line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
}


def by_name(lines):
    return {requirement.name: (requirement.specifier, requirement.marker) for requirement in map(Requirement, lines)}


def test_conda_file_agrees_with_pyproject():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, section = conda["dependencies"]
    assert python == f"python{PROJECT['requires-python']}"
    assert pip == "pip"
    options, packages = section["pip"][:2], section["pip"][2:]
    assert options == ["--constraint constraints.txt", "--editable ."]
    assert by_name(packages) == by_name(REQUIRED)
    assert len(packages) == len(REQUIRED)


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
