"""A tiny project on which `make repro` is disturbed again and again, and what must hold afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from study.context.lock import md5_of
from tests.support import Project, copy_project
from turnover.errors import UserError
from turnover.training.checkpoints import read

PATIENCE = 10.0  # seconds that processes have to leave in
EPOCHS = 12  # of every training, so that some kills meet one
_OUTS = ("runs", "scores", "made-by", "data/scenarios", "data/validation", "reports", "ground_truth")
# The table of validation tells what each method cost; it is drawn, and shown in the report.
_TIMED = ("reports/validation/*/cost.csv", "reports/figures/validation-*", "reports/index.html", "reports/report.md")
_MARK = "TURNOVER_DISTURBED"  # in the environment of all that the command starts, wherever it works


class Disturbed:
    """The command on a tiny project whose data set is there and everything else is not, with a database of MLflow.

    Args:
        folder: where it lies. What an earlier process made there is taken up.
        targets: stages; none: the whole pipeline.
    """

    def __init__(self, folder: Path, targets: list[str]) -> None:
        self.log, self._database, self._cache = folder / "log", folder / "empty.db", folder / "cache"
        self.targets = targets
        self.project = Project(folder / "project")
        self.root = self.project.root
        if not self._database.exists():
            shutil.rmtree(self.root, ignore_errors=True)
            copy_project(self.root)
            self.project.params(more_epochs)
            self.finish("fetch")
            self.project.run("git", "add", "--force", "dvc.lock")
            self.project.commit()
            shutil.copytree(self.root / ".dvc/cache/files", self._cache)
            shutil.copy(self.root / "mlflow.db", self._database)

    def wipe(self) -> None:
        for name in _OUTS:
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in (".checkpoints", ".dvc/tmp", ".dvc/cache", "mlruns"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        shutil.copytree(self._cache, self.root / ".dvc/cache/files")
        for path in self.root.glob("mlflow.db*"):
            path.unlink()
        shutil.copy(self._database, self.root / "mlflow.db")
        self.project.run("git", "checkout", "--quiet", "--force", "HEAD")

    def start(self, *targets: str) -> subprocess.Popen[bytes]:
        strange = ("PYTHON", "MLFLOW_", "DVC_", "TURNOVER_")
        env = {key: value for key, value in os.environ.items() if not key.startswith(strange)}
        env |= {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(self.root / "src"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_NO_ANALYTICS": "1",
            _MARK: str(self.root),
        }
        command = [sys.executable, "-m", "study.commands.repro", *targets]
        # In the background of a script Ctrl-C is ignored, and all that is started inherits that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=self.root, env=env, stdout=log, stderr=log, start_new_session=True)

    def finish(self, *targets: str) -> str:
        """The command, left alone; what it said.

        Raises:
            RuntimeError: it failed.
        """
        begin = self.log.stat().st_size if self.log.exists() else 0
        status = self.start(*targets).wait()
        said = self.log.read_bytes()[begin:].decode(errors="replace")
        if status:
            raise RuntimeError(said)
        return said

    def content(self, timed: bool = False) -> dict[str, str]:
        """A hash of every file that the pipeline has made; also of those that say how many seconds something took?"""
        found = {}
        for name in (*_OUTS, "data/raw"):
            for path in sorted((self.root / name).rglob("*")):
                place = path.relative_to(self.root)
                if path.is_file() and (timed or not any(place.match(of) for of in _TIMED)):
                    found[place.as_posix()] = md5_of(path)
        return found

    def processes(self) -> dict[int, str]:
        """Process ids and command lines of all that the command has started, and of itself."""
        mark, found = f"{_MARK}={self.root}".encode(), {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it may end meanwhile, or be somebody else's
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    if words:  # none: a corpse
                        found[int(process.name)] = words
        return found

    def worked(self) -> float:
        """Seconds of processor time of the command, and of all that it has started and seen end."""
        ticks = 0
        for pid in self.processes():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
                ticks += sum(map(int, fields.split()[11:15]))  # of itself and of its children, for user and system
        return ticks / os.sysconf("SC_CLK_TCK")

    def stages(self) -> list[int]:
        """Process ids of the stage and its trainings: first the stage itself."""
        return sorted(pid for pid, words in self.processes().items() if "python -m stages." in words)

    def left_behind(self, command: subprocess.Popen[bytes]) -> list[str]:
        """The command lines of who still lives some seconds later; they are ended then."""
        end = time.monotonic() + PATIENCE
        while (command.poll() is None or self.processes()) and time.monotonic() < end:
            time.sleep(0.1)
        left = self.processes()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        command.wait()
        return sorted(left.values())

    def runs(self) -> dict[str, str]:
        """Names and states of all runs in MLflow that were not deleted, and neither killed nor failed."""
        asked = "select name, status from runs where lifecycle_stage = 'active' and status not in ('KILLED', 'FAILED')"
        found: dict[str, str] = {}
        with closing(sqlite3.connect(self.root / "mlflow.db")) as database:
            for name, status in sorted(database.execute(asked)):
                found[name] = f"{found[name]}, {status}" if name in found else status
        return found


class Progress:
    """Watches how many epochs each training has saved: they may never become fewer, and no training comes twice."""

    def __init__(self, root: Path) -> None:
        self.faults: list[str] = []
        self._folder, self._over = root / ".checkpoints", threading.Event()
        self._seen: dict[str, tuple[int, int]] = {}  # when it was written, epochs
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def under_way(self) -> int:
        """How many trainings have begun and are not at their end."""
        saved = (self._seen.get(path.name) for path in self._folder.glob("*.pt"))
        return sum(1 for entry in saved if entry is not None and 0 < entry[1] < EPOCHS)

    def look(self) -> None:
        """At all that trains now."""
        for path in self._folder.glob("*.pt"):
            with suppress(OSError, UserError):  # it was finished meanwhile
                self._look_at(path)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.look()

    def _look_at(self, path: Path) -> None:
        about, before = path.stat(), self._seen.get(path.name)
        if before is not None and before[0] == about.st_mtime_ns:
            return
        epochs = len(read(path)["history"])
        if before is not None and epochs < before[1]:
            self.faults.append(f"{path.name}: {before[1]} epochs were done, and it went on from {epochs}")
        finished = self._folder / "train" / path.stem
        if finished.exists() and finished.stat().st_mtime < about.st_mtime:
            self.faults.append(f"{path.name}: it was finished, and is trained again")
        self._seen[path.name] = about.st_mtime_ns, epochs


def more_epochs(values: dict[str, Any]) -> None:
    values["training"]["epochs"] = EPOCHS
