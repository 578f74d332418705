"""Kill `make repro` again and again, each time followed by the same command and nothing else. Prints JSON.

    python -m tests.pipeline.kills --random 60 --aimed 20 --seed 0

Every round begins without outs and checkpoints, but with the data set, on the settings of configs/tiny.yaml. Random
kills come at any moment, to the process that runs DVC, to a stage, to one of its trainings or to all of them, as
SIGKILL, SIGTERM or SIGINT. Aimed ones come while DVC writes its lock, and while a stage still imports. After each, no
process may be left ten seconds later; the command again must end well, with the same `dvc.lock` as without a kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.support import copy_project

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def processes(root: Path) -> dict[int, str]:
    """Process ids and command lines of what works in the project."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile
            if os.readlink(process / "cwd") == str(root):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if words:  # none: a corpse
                    found[int(process.name)] = words
    return found


class Campaign:
    """The command on a tiny project whose data set is there, and everything else is not."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        self.project, self.log = copy_project(folder / "project"), folder / "log"
        self.root = self.project.root
        self.targets = targets
        self.finish("fetch")
        self.project.run("git", "add", "--force", "dvc.lock")
        self.project.commit()

    def wipe(self) -> None:
        for name in ("runs", "scores", "made-by", "data/scenarios", "data/validation", "reports", "ground_truth"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in (".checkpoints", ".dvc/tmp", ".dvc/cache/runs"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        self.project.run("git", "checkout", "--quiet", "--force", "HEAD")

    def start(self, *targets: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        env = {**os.environ, "PATH": path, "PYTHONPATH": str(self.root / "src"), "TURNOVER_TRACKING": "off"}
        command = [sys.executable, "-m", "study.commands.repro", *targets]
        with self.log.open("wb") as log:
            return subprocess.Popen(command, cwd=self.root, env=env, stdout=log, stderr=log, start_new_session=True)

    def finish(self, *targets: str) -> bytes:
        """The command, undisturbed; the lock it ends with."""
        if self.start(*targets).wait():
            raise RuntimeError(self.log.read_text())
        return (self.root / "dvc.lock").read_bytes()

    def kill(self, victim: str, number: int, moment: Callable[[], bool]) -> list[str]:
        """Start, wait for the moment, kill; the command lines of who lives ten seconds later."""
        command = self.start(*self.targets)
        while command.poll() is None and not moment():
            time.sleep(0.002)
        stages = sorted(pid for pid, words in processes(self.root).items() if "python -m stages." in words)
        with suppress(ProcessLookupError):
            if victim == "all":
                os.killpg(command.pid, number)
            else:
                os.kill({"stage": stages[0], "training": stages[-1]}[victim] if stages else command.pid, number)
        if number != signal.SIGKILL or victim in ("stage", "training"):  # DVC may go on, or says what happened
            command.wait()
        end = time.monotonic() + 10
        while (left := processes(self.root)) and time.monotonic() < end:
            command.poll()
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        command.wait()
        return sorted(left.values())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pipeline.kills", description=__doc__)
    parser.add_argument("--random", type=int, default=60, help="kills at random moments")
    parser.add_argument("--aimed", type=int, default=20, help="kills while the lock is written or a stage imports")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("targets", nargs="*", help="stages; none: the whole pipeline")
    asked = parser.parse_args()
    chance, faults = random.Random(asked.seed), []
    with tempfile.TemporaryDirectory(prefix="turnover-kills-") as folder:
        campaign = Campaign(Path(folder), asked.targets)
        root, began = campaign.root, time.monotonic()
        expected = campaign.finish(*asked.targets)
        duration = time.monotonic() - began
        for number in range(asked.random + asked.aimed):
            campaign.wipe()
            victim, sent = chance.choice(("dvc", "stage", "training", "all")), chance.choice(SIGNALS)
            if number < asked.random:
                how, moment = "at random", later(chance.uniform(0, duration))
            elif number % 2:
                how, moment = "lock", (root / ".dvc.lock.part").exists
            else:
                how, moment = "imports", lambda: any("python -m stages." in words for words in processes(root).values())
            left = campaign.kill(victim, sent, moment)
            what = f"{how}: {signal.Signals(sent).name} to {victim}"
            faults += [f"{what}: left {words}" for words in left]
            try:
                if campaign.finish(*asked.targets) != expected:
                    faults.append(f"{what}: another dvc.lock")
            except RuntimeError as error:
                faults.append(f"{what}: {error}")
            print(what, file=sys.stderr)
    print(json.dumps({"kills": asked.random + asked.aimed, "seed": asked.seed, "faults": faults}, indent=1))
    sys.exit(bool(faults))


def later(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds are over."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


if __name__ == "__main__":
    main()
