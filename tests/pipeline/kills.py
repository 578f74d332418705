"""Kill `make repro` again and again, each time followed by the same command and nothing else. Prints JSON.

    python -m tests.pipeline.kills --random 60 --aimed 20 --seed 0 --folder build/kills

A chain begins without outs and checkpoints, but with the data set, on the settings of configs/tiny.yaml. The command is
killed, given again, killed again, up to twenty times, and then left alone. Random kills come at any moment, to the
process that runs DVC, to a stage, to one of its trainings or to all of them, as SIGKILL, SIGTERM or SIGINT. Aimed ones
come while DVC writes its lock, while a stage still imports, and between the epochs of a training.

After each kill no process may be left ten seconds later. No training may ever be seen with fewer epochs than it had
saved, or be made twice: a kill costs the epoch in flight at most. A chain must end with the same bytes as without a
kill, but for those that tell seconds, and with the same runs in MLflow, none of them RUNNING. With `--folder` the
campaign itself may be interrupted, and goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from study.context.lock import other_outs
from tests.pipeline.disturbed import EPOCHS, Disturbed, Progress

_CHAIN = 20  # kills at most before the command is left alone
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_GAP = 40.0  # seconds of processor time, however busy the machine is, to a kill at a random moment, at most
_IMPORTS = 1.5  # seconds after its start within which an aimed kill meets a stage


def chain(
    disturbed: Disturbed,
    expected: Expected,
    begun: Path,
    chance: Callable[[int], random.Random],
    kills: int,
    aimed: bool,
) -> dict[str, Any]:
    """Kill the command up to so often, and leave it alone then; what was done, and what did not hold.

    Args:
        begun: a file; written after every kill, so that a chain that was begun goes on.
        chance: gives the random numbers of each kill.
    """
    if not begun.exists():
        disturbed.wipe()
    found = json.loads(begun.read_text()) if begun.exists() else {"aimed": aimed, "kills": [], "met": 0, "faults": []}
    with Progress(disturbed.root) as progress:
        while len(found["kills"]) < kills:
            command, of = disturbed.start(*disturbed.targets), chance(len(found["kills"]))
            where, moment = aim(disturbed, of) if found["aimed"] else at_random(disturbed, of)
            while command.poll() is None and not moment():
                time.sleep(0.02)
            if command.poll() is not None:  # it was at its end before the moment came
                break
            did = f"{where}: {kill(disturbed, command, of)}"
            found["kills"].append(did)
            found["met"] += progress.under_way()
            found["faults"] += [f"{did}: left {words}" for words in disturbed.left_behind(command)]
            begun.write_text(json.dumps(found))
        try:
            disturbed.finish(*disturbed.targets)
            found["faults"] += [f"another {name}" for name in differing(expected.content, disturbed.content())]
            found["faults"] += [f"{name} is not what dvc.lock says" for name in other_outs(disturbed.root)]
            found["faults"] += [f"MLflow: {name}" for name in differing(expected.runs, disturbed.runs())]
        except RuntimeError as error:
            found["faults"].append(str(error))
    found["faults"] += progress.faults
    return found


@dataclass(frozen=True)
class Expected:
    """What the command gives when it is left alone: files, and runs in MLflow."""

    content: dict[str, str]
    runs: dict[str, str]


def expect(disturbed: Disturbed, file: Path) -> Expected:
    """Once in the life of a campaign."""
    if not file.exists():
        disturbed.wipe()
        disturbed.finish(*disturbed.targets)
        file.write_text(json.dumps(asdict(Expected(disturbed.content(), disturbed.runs()))))
    return Expected(**json.loads(file.read_text()))


def differing(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    return [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]


def kill(disturbed: Disturbed, command: subprocess.Popen[bytes], chance: random.Random) -> str:
    """Send a signal to a part of the command, or to all of it; which and to whom."""
    sent, victim = chance.choice(_SIGNALS), chance.choice(("dvc", "stage", "training", "all"))
    stages = disturbed.stages()
    with suppress(ProcessLookupError):
        if sent == signal.SIGINT or victim == "all":  # Ctrl-C reaches all
            victim = "all"
            os.killpg(command.pid, sent)
        elif victim == "dvc" or not stages:
            victim = "dvc"
            os.kill(command.pid, sent)
        else:
            os.kill(stages[0 if victim == "stage" else -1], sent)
    return f"{sent.name} to {victim}"


def aim(disturbed: Disturbed, chance: random.Random) -> tuple[str, Callable[[], bool]]:
    """The writing of the lock, the imports of a stage, or an epoch of a training: one of the next few."""
    count, what = chance.randint(1, 3), chance.choice(("lock", "imports", "epoch"))
    if what == "epoch":
        count, folder = chance.randint(1, EPOCHS - 1), disturbed.root / ".checkpoints"

        def saved() -> int | None:
            return max((path.stat().st_mtime_ns for path in folder.glob("*.pt")), default=None)

        return f"epoch, the {count}.", nth(count, saved)
    if what == "lock":
        written = disturbed.root / ".dvc.lock.part"
        return f"lock, the {count}.", nth(count, lambda: written.stat().st_ino if written.exists() else None)
    wait = chance.uniform(0, _IMPORTS)
    begun = nth(count, lambda: next(iter(disturbed.stages()), None))
    ends: list[float] = []

    def moment() -> bool:
        if not ends and begun():
            ends.append(time.monotonic() + wait)
        return bool(ends) and time.monotonic() >= ends[0]

    return f"{wait:.1f} s into the imports of the {count}. stage", moment


def nth(count: int, look: Callable[[], int | None]) -> Callable[[], bool]:
    """Whether `look` has turned to another thing so often."""
    seen: list[int | None] = [None]

    def moment() -> bool:
        with suppress(OSError):  # it was there a moment ago
            if (found := look()) != seen[-1]:
                seen.append(found)
        return sum(1 for of in seen if of is not None) >= count

    return moment


def at_random(disturbed: Disturbed, chance: random.Random) -> tuple[str, Callable[[], bool]]:
    """When the command has worked some seconds."""
    seconds = chance.uniform(0, _GAP)
    return f"after {seconds:.0f} s of work", lambda: disturbed.worked() > seconds


def random_of(*numbers: int) -> random.Random:
    return random.Random(str(numbers))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pipeline.kills", description=__doc__)
    parser.add_argument("--random", type=int, default=60, help="kills at random moments")
    parser.add_argument(
        "--aimed", type=int, default=20, help="kills while DVC writes, a stage imports or a network trains"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work, and to go on with what was begun there")
    parser.add_argument("targets", nargs="*", help="stages; none: the whole pipeline")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="turnover-kills-") as temporary:
        folder = Path(asked.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        done = folder / "chains.jsonl"
        chains = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
        disturbed = Disturbed(folder, asked.targets)
        expected = expect(disturbed, folder / "expected.json")
        for aimed, wanted in ((False, asked.random), (True, asked.aimed)):
            while (left := wanted - sum(len(of["kills"]) for of in chains if of["aimed"] == aimed)) > 0:
                chance = partial(random_of, asked.seed, len(chains))
                begun = folder / "chain.json"
                chains.append(chain(disturbed, expected, begun, chance, min(left, _CHAIN), aimed))
                with done.open("a") as file:
                    file.write(json.dumps(chains[-1]) + "\n")
                begun.unlink(missing_ok=True)
    faults = [fault for of in chains for fault in of["faults"]]
    kills = Counter(what.partition(": ")[2] for of in chains for what in of["kills"])
    met = sum(of["met"] for of in chains)
    print(json.dumps({"seed": asked.seed, "kills": kills, "trainings met": met, "faults": faults}, indent=1))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
