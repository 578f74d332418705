"""The workflows of GitHub only call make, and are files that GitHub takes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
SCOPES = {"contents": {"read"}, "pull-requests": {"write"}}
# What an expression may name: values that whoever opens a pull request cannot choose.
SAFE = {
    "github.token",
    "github.event.number",
    "github.event.pull_request.base.sha",
}


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.name)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def steps_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_are_workflows() -> None:
    assert [path.suffix for path in WORKFLOWS] == [".yml"] * len(WORKFLOWS) != []


def checked(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        *map(str, paths),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_they_follow_github_s_schema() -> None:
    done = checked(*WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_finds_a_key_that_github_does_not_know(tmp_path: Path) -> None:
    """It is the check that would have to say so."""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text(encoding="utf-8").replace("timeout-minutes", "timeout"), encoding="utf-8")
    done = checked(wrong)
    assert done.returncode and "timeout" in done.stdout


def test_times_are_those_that_github_allows(workflow: dict[str, Any]) -> None:
    for schedule in workflow["on"].get("schedule") or []:
        assert re.fullmatch(r"[\d*/,-]+( [\d*/,-]+){4}", schedule["cron"])
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 360, "the most that GitHub gives a job"


def test_rights_are_the_least(workflow: dict[str, Any]) -> None:
    for rights in (workflow["permissions"], *(job.get("permissions", {}) for job in workflow["jobs"].values())):
        assert all(value in SCOPES[scope] for scope, value in rights.items())


def test_steps_only_call_make_and_known_actions(workflow: dict[str, Any]) -> None:
    for step in steps_of(workflow):
        if "uses" in step:
            assert re.fullmatch(r"actions/(checkout|setup-python|upload-artifact)@v\d+", step["uses"])
            continue
        called = re.fullmatch(r"make ([a-z-]+)( [A-Z]+=\$\{\{ [\w.]+ \}\})?", step["run"])
        assert called, f"more than a call of make: {step['run']!r}"
        assert called[1] in TARGETS, f"there is no `make {called[1]}`"


def test_expressions_hold_nothing_that_a_stranger_chooses(workflow: dict[str, Any]) -> None:
    for step in steps_of(workflow):
        for text in (step.get("run", ""), *step.get("env", {}).values()):
            assert set(re.findall(r"\$\{\{ *(.*?) *\}\}", text)) <= SAFE


def test_a_pull_request_is_compared_with_all_commits_there() -> None:
    changes = read(ROOT / ".github/workflows/ci.yml")["jobs"]["changes"]
    assert changes["steps"][0]["with"] == {"fetch-depth": 0}
    runs = [step["run"].split()[1] for step in changes["steps"] if "run" in step]
    assert runs == ["changes", "comment"]
