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

from tests.support import Project, copy_project
from turnover.errors import UserError
from turnover.training.attachments import DamageError
from turnover.training.checkpoints import read

PATIENCE = 10.0  # seconds that processes have to leave in
EPOCHS = 12  # of every training, so that some kills meet one
_MARK = "TURNOVER_DISTURBED"  # in the environment of all that the command starts, wherever it works


class Disturbed:
    """The command on a tiny project whose data set is there and everything else is not, with a database of MLflow.

    Args:
        folder: where it lies. What an earlier process made there is taken up.
        targets: stages; none: the whole pipeline.
    """

    def __init__(self, folder: Path, targets: list[str]) -> None:
        self.log, self._database = folder / "log", folder / "empty.db"
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
            shutil.copy(self.root / "mlflow.db", self._database)

    def wipe(self) -> None:
        for name in ("runs", "scores", "made-by", "data/scenarios", "data/validation", "reports", "ground_truth"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in (".checkpoints", ".dvc/tmp", ".dvc/cache/runs", "mlruns"):
            shutil.rmtree(self.root / name, ignore_errors=True)
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
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=self.root, env=env, stdout=log, stderr=log, start_new_session=True)

    def finish(self, *targets: str) -> bytes:
        """The command, left alone; the lock it ends with.

        Raises:
            RuntimeError: it failed.
        """
        begin = self.log.stat().st_size if self.log.exists() else 0
        if self.start(*targets).wait():
            raise RuntimeError(self.log.read_bytes()[begin:].decode(errors="replace"))
        return (self.root / "dvc.lock").read_bytes()

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

    def runs(self) -> list[tuple[str, str]]:
        """Status and name of all runs in MLflow that were not deleted and not killed."""
        asked = "select status, name from runs where lifecycle_stage = 'active' and status != 'KILLED' order by 1, 2"
        with closing(sqlite3.connect(self.root / "mlflow.db")) as database:
            return list(database.execute(asked))


class Progress:
    """Watches how many epochs each training has saved: they may never become fewer, and no training comes twice."""

    def __init__(self, root: Path) -> None:
        self.faults: list[str] = []
        self._folder, self._over = root / ".checkpoints", threading.Event()
        self._seen: dict[str, tuple[int, int]] = {}  # file, epochs
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

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for path in self._folder.glob("*.pt"):
                with suppress(OSError, UserError, DamageError):  # it was finished meanwhile
                    self._look(path)

    def _look(self, path: Path) -> None:
        about, before = path.stat(), self._seen.get(path.name)
        if before is not None and before[0] == about.st_ino:
            return
        epochs = len(read(path)["history"])
        if before is not None and epochs < before[1]:
            self.faults.append(f"{path.name}: {before[1]} epochs were done, and it went on from {epochs}")
        finished = self._folder / "train" / path.stem
        if finished.exists() and finished.stat().st_mtime < about.st_mtime:
            self.faults.append(f"{path.name}: it was finished, and is trained again")
        self._seen[path.name] = about.st_ino, epochs


def more_epochs(values: dict[str, Any]) -> None:
    values["training"]["epochs"] = EPOCHS
