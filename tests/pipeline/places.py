"""Give `make repro` twice where few people work: odd paths, no git, no network, Python's own variables. Prints JSON.

    python -m tests.pipeline.places --folder build/places

Each place gets a copy of the project with the settings of configs/tiny.yaml. The second time no stage may run, and no
run may be added to MLflow, also where its note that all is there is removed. Or it is refused in one sentence, before
any work. The first place is set up by `make setup` without network, from uv's cache, and works without network, too
(which needs root, for a network namespace of its own); the others borrow the packages of this environment. The places
that must work have several odd things each: a run takes a minute or two.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import ROOT, Project, copy_project

_FILES = ("Makefile", "README.md", "requirements.lock", "requirements-uv.lock")


@dataclass(frozen=True)
class Place:
    """Where it is, how it is entered, and what is said where it is refused.

    Args:
        folder: names of folders, one in the other.
        env: variables that its user has set.
        offline: without network, and set up there.
        git: whether it is a clone, and no download.
        refused: what the one sentence says; empty: it works.
        command: make's arguments.
    """

    folder: str
    env: dict[str, str] = field(default_factory=dict)
    offline: bool = False
    git: bool = True
    refused: str = ""
    command: tuple[str, ...] = ("make", "repro")


_FOREIGN = "FOREIGN"  # stands for a folder with packages called study and turnover that are somebody else's
_OLDER = "OLDER"  # for one with another version of ours
_OWN = "OWN"  # for the place's own, which is not installed then
_BARE = (".venv/bin/python", "-m", "study.commands.repro")  # without make, which takes Python's variables away
PLACES = {
    "spaces, umlauts, quotes, dollars, brackets; setup and run without network": Place(
        'sp ace/ü ß/it\'s "so"/$HOME $$ [x]', offline=True
    ),
    "percent signs, no git, Python's own variables, a foreign PYTHONPATH, another locale": Place(
        "50% %41/%s ü",
        git=False,
        env={
            "PYTHONSAFEPATH": "1",
            "PYTHONWARNINGS": "error",
            "PYTHONPATH": _FOREIGN,
            "PYTHONUTF8": "0",
            "LC_ALL": "C",
            "LANG": "C",
            "OMP_DYNAMIC": "true",
        },
    ),
    "braces": Place("a{b}c", refused="DVC cannot work below a folder whose name holds a brace: rename "),
    "no such Python": Place(
        "x", command=("make", "repro", "PYTHON=/nope"), offline=True, refused="error: /nope not found"
    ),
    "an older checkout in PYTHONPATH, without make": Place(
        "x", {"PYTHONPATH": _OLDER}, command=_BARE, refused="error: study is imported from "
    ),
    "a locale that cannot write the path, without make": Place(
        "ü",
        {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONPATH": _OWN},
        command=_BARE,
        refused=" needs UTF-8, but the locale's encoding is ",
    ),
}


def visit(place: Place, folder: Path) -> list[str]:
    """What did not hold there."""
    root = folder / "place" / place.folder
    project = copy_project(root)
    for name in _FILES:
        shutil.copy(ROOT / name, root / name)
    project.commit()
    if not place.git:
        shutil.rmtree(root / ".git")
    if not place.offline:
        borrow(root, code=place.env.get("PYTHONPATH") != _OWN)
    first = make(project, place, folder)
    if place.refused:
        made = [name for name in ("data/raw", "runs", "mlflow.db") if (root / name).exists()]
        told = place.refused in first.stdout + first.stderr and "Traceback" not in first.stderr
        return [] if first.returncode and told and not made else [f"{first.stdout}{first.stderr}, made {made}"]
    faults = judge(first, "Running stage 'report'", "runs present")
    second = make(project, place, folder)
    faults += judge(second, " 0 added", refused="Running stage")
    (root / "mlflow.db.complete").unlink(missing_ok=True)
    return faults + judge(make(project, place, folder), " 0 added", refused="Running stage")


def judge(done: subprocess.CompletedProcess[str], *said: str, refused: str = "Traceback") -> list[str]:
    text = done.stdout + done.stderr
    bad = [words for words in ("Traceback", "warning: ", refused) if words in text]
    return [text] if done.returncode or bad or not all(words in text for words in said) else []


def make(project: Project, place: Place, folder: Path) -> subprocess.CompletedProcess[str]:
    strange = ("PYTHON", "MLFLOW_", "DVC_", "TURNOVER_", "MAKE", "OMP_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(strange)}
    codes = {_FOREIGN: foreign(folder), _OLDER: older(folder), _OWN: project.root / "src"}
    env |= {key: str(codes.get(value, value)) for key, value in place.env.items()}
    alone = ["unshare", "--net"] if place.offline else []
    if place.offline:
        env["PATH"] = os.pathsep.join([str(only_uv(folder)), env["PATH"]])
    command = [*alone, *place.command]
    return subprocess.run(command, cwd=project.root, env=env, capture_output=True, text=True, errors="replace")


def borrow(root: Path, code: bool) -> None:
    """An environment in the place, with the packages of this one, and the place's own code if that is wanted."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / ".venv")], check=True)
    packages = next((root / ".venv/lib").glob("python*/site-packages"))
    places = [*([root / "src"] if code else []), sysconfig.get_path("purelib")]
    (packages / "borrowed.pth").write_text("".join(f"{place}\n" for place in places), encoding="utf-8")
    content = b"".join((root / name).read_bytes() for name in ("requirements.lock", "pyproject.toml"))
    stamp = subprocess.run(["cksum"], input=content, capture_output=True, check=True).stdout.split()[0].decode()
    (root / f".venv/.installed-{stamp}").touch()


def only_uv(folder: Path) -> Path:
    """A folder with the program `uv`, and no other."""
    (folder / "uv").mkdir(exist_ok=True)
    if not (folder / "uv/uv").exists():
        (folder / "uv/uv").symlink_to(Path(sys.executable).parent / "uv")
    return folder / "uv"


def foreign(folder: Path) -> Path:
    for name in ("study", "turnover"):
        (folder / "foreign" / name).mkdir(parents=True, exist_ok=True)
        (folder / "foreign" / name / "__init__.py").write_text("raise SystemExit('foreign code ran')\n")
    return folder / "foreign"


def older(folder: Path) -> Path:
    shutil.copytree(ROOT / "src", folder / "older", dirs_exist_ok=True)
    (folder / "older/study/gone.py").touch()
    return folder / "older"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pipeline.places", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work; what was finished there is not done again")
    parser.add_argument("--only", choices=PLACES, help="this place alone")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="turnover-places-") as temporary:
        folder = Path(asked.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "places.json"
        found: dict[str, list[str]] = json.loads(file.read_text()) if file.exists() else {}
        for name, place in PLACES.items():
            if name not in found and asked.only in (None, name):
                shutil.rmtree(folder / "place", ignore_errors=True)
                found[name] = visit(place, folder)
                file.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))
    sys.exit(any(found.values()))


if __name__ == "__main__":
    main()
