"""dvc.yaml, the stage scripts and the typed params say the same thing."""

from __future__ import annotations

import ast
import itertools
import os
import re
import signal
from pathlib import Path

import pytest

from study.context.declaration import declaration, read_yaml
from study.context.lifetime import leave_on_sigterm
from study.context.params import Params
from study.context.runs import load_params
from study.context.stage import run_stage
from turnover.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
RAW = read_yaml(ROOT / "params.yaml")
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]

# Rooms and files that stages import but that cannot change a byte of what they write: plumbing, tracking, errors.
CANNOT_CHANGE_OUTS = (
    "src/study/context/",
    "src/study/tracking/",
    "src/turnover/errors.py",
    "src/turnover/interruption.py",
    "src/turnover/progress.py",
)


def counts(path: str) -> bool:
    """Whether a file can change what a stage writes. A room's table of names only hands names on."""
    return not path.startswith(CANNOT_CHANGE_OUTS) and path != "src/turnover/__init__.py"


def items(name: str) -> list[dict[str, str]]:
    matrix = STAGES[name].get("matrix", {})
    lists = [RAW[str(of)[2:-1]] for of in matrix.values()]
    return [dict(zip(matrix, map(str, values), strict=True)) for values in itertools.product(*lists)]


def test_our_reading_of_dvc_yaml_is_dvcs_own() -> None:
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        theirs = {stage.addressing: stage for stage in repo.index.stages}
        ours = [declaration(ROOT, RAW, name, item) for name in STAGES for item in items(name)]
        assert {stage.name for stage in ours} == set(theirs)
        for stage in ours:
            other = theirs[stage.name]
            assert stage.cmd == other.cmd
            assert set(stage.outs) == {out.def_path for out in other.outs}
            paths = {dep.def_path for dep in other.deps if not hasattr(dep, "params")}
            params = {key for dep in other.deps if hasattr(dep, "params") for key in dep.params}
            assert set(stage.deps) == paths
            assert set(stage.params) == params


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_the_code_it_imports(name: str) -> None:
    declared = [dep for dep in STAGES[name]["deps"] if dep.startswith(("stages/", "src/"))]
    seen: set[str] = set()
    todo = [f"stages/{name}.py"]
    while todo:
        path = todo.pop()
        if path not in seen and counts(path):
            seen.add(path)
            todo += imports_of(path)
    undeclared = {path for path in seen if not any(within(path, dep) for dep in declared)}
    assert not undeclared, f"stage {name} imports code that dvc.yaml does not declare"
    unused = {dep for dep in declared if not any(within(path, dep) for path in seen)}
    assert not unused, f"dvc.yaml declares code that stage {name} does not import"


def within(path: str, dep: str) -> bool:
    return path == dep or path.startswith(dep + "/")


def test_no_single_file_of_a_library_is_declared() -> None:
    declared = {dep for stage in STAGES.values() for dep in stage["deps"] if dep.startswith("src/")}
    assert declared
    assert all((ROOT / dep).is_dir() for dep in declared)


def imports_of(path: str) -> list[str]:
    """Files of this project that a file imports, wherever in it."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            base = name.replace(".", "/")
            for candidate in (f"src/{base}.py", f"src/{base}/__init__.py"):
                if (ROOT / candidate).exists():
                    found.append(candidate)
    return found


def test_every_setting_is_declared_by_a_stage() -> None:
    declared = {key.split("${")[0].rstrip(".") for stage in STAGES.values() for key in stage.get("params", [])} | {
        str(of)[2:-1] for stage in STAGES.values() for of in stage.get("matrix", {}).values()
    }
    for key in Params.model_fields.keys() - {"processes"}:  # changes no result
        assert any(other.split(".")[0] == key for other in declared), f"no stage depends on setting {key}"


def test_the_lists_of_the_matrix_feed_the_stages_that_aggregate() -> None:
    for name in ("findings", "summarize", "figures", "report"):
        assert {"scenarios", "placements", "seeds"} <= set(STAGES[name]["params"])


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_a_script_that_explains_itself(name: str) -> None:
    tree = ast.parse((ROOT / "stages" / f"{name}.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert re.search(rf"^python -m stages\.{name}\b", STAGES[name]["cmd"])


def test_committed_params_are_valid() -> None:
    assert load_params(ROOT).scenarios == RAW["scenarios"]


def test_a_stage_cannot_read_what_is_not_declared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "secret.txt").write_text("not for corrupt")
    attempts = {
        "setting 'training'": lambda stage: stage.param("training"),
        "reads scores/secret.txt": lambda stage: stage.dep("scores/secret.txt"),
        "writes runs/x": lambda stage: stage.out("runs/x"),
        "opens scores/secret.txt": lambda stage: (stage.root / "scores/secret.txt").read_text(),
    }
    for message, attempt in attempts.items():
        assert run_stage(attempt, "corrupt", {"scenario": "mixed"}, tmp_path) == 1
        said = capsys.readouterr().err
        assert message in said
        assert "which dvc.yaml does not declare" in said
    # The same file is open to a stage that declares it.
    assert run_stage(lambda stage: stage.dep("scores/secret.txt").read_text(), "figures", {}, tmp_path) == 0  # type: ignore[arg-type,return-value]


def test_sigterm_ends_a_stage_with_a_message_and_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        leave_on_sigterm()
        status = run_stage(lambda stage: os.kill(os.getpid(), signal.SIGTERM), "corrupt", {"scenario": "mixed"}, ROOT)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert status == 128 + signal.SIGTERM
    assert capsys.readouterr().err == (
        "error: stage corrupt: it was asked to end; nothing half-written was left behind\n"
    )


def test_unknown_stage_or_item_is_an_error() -> None:
    with pytest.raises(UserError, match="has no stage 'trian'; it has fetch"):
        declaration(ROOT, RAW, "trian", {})
    with pytest.raises(UserError, match="--placement top is not in the matrix of stage 'train'"):
        declaration(ROOT, RAW, "train", {"scenario": "mixed", "placement": "top"})
