"""The command as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT
from tests.unit.turnover.auditing.conftest import QUICK, Audited

OPTIONS = [f"--{name}={value}" for name, value in QUICK.items()]


def turnover(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "turnover.auditing.command", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_it_says_what_it_finds_and_does(audited: Audited, tmp_path: Path) -> None:
    done = turnover("audit", audited.root, *OPTIONS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{audited.root}: 90 images in 3 classes"
    assert lines[1].startswith("training a small network once, 12 epochs on cpu with 1 threads: about ")
    assert lines[-1] == "audit/report.html shows it; audit/labels.csv lists every example"
    assert (tmp_path / "audit/labels.csv").read_bytes() == (audited.folder / "labels.csv").read_bytes()
    assert done.stderr == "", "no warning, and no bar where there is no terminal"


def test_mistakes_are_one_sentence_and_quick_to_be_found(tmp_path: Path) -> None:
    done = turnover("audit", "gone", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("error: there is nothing at gone; name a folder of class folders, a table or embeddings\n")
    assert list(tmp_path.iterdir()) == []
    done = turnover("audit", "gone", "--epochs", "many", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_help_has_examples(tmp_path: Path) -> None:
    done = turnover("audit", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "turnover audit embeddings.npy --labels labels.csv" in done.stdout
    assert "audit" in turnover("--help", cwd=tmp_path).stdout


def test_without_the_extra_it_names_it(tmp_path: Path) -> None:
    script = "import sys\nsys.modules['typer'] = None\nfrom turnover.auditing.command import main\nmain()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: the command needs typer; install it by pip install 'turnover[audit]'\n"


def test_what_only_looks_does_not_import_torch(tmp_path: Path) -> None:
    script = "import sys\nfrom turnover.auditing.audits import audit\ntry:\n    audit('gone')\nexcept ValueError:\n"
    script += "    print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
