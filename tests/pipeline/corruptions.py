"""Damage every kind of file that the project keeps, and give `make repro` again. Prints JSON.

    python -m tests.pipeline.corruptions --seed 0 --folder build/corruptions

The pipeline runs once, on the settings of configs/tiny.yaml, and its results are committed. Then come six rounds: a
bit is flipped, the second half is cut off, or nothing is left, with the file's time kept or not. In each, one file of
every kind is damaged, by chance; those of one group together, followed by one `make repro`. Afterwards every file must
be what it was, whether it was brought back, made again, or never of any importance; or it was said that it is damaged.
With `--folder`, what is finished is not done again when the campaign itself is interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from study.context.declaration import read_yaml
from study.context.lock import md5_of
from tests.pipeline.disturbed import Disturbed

HOW: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip": lambda whole, chance: flipped(whole, chance),
    "cut": lambda whole, chance: whole[: len(whole) // 2],
    "empty": lambda whole, chance: b"",
}
# Kind of file, and where one lies, once the pipeline has run.
OUTS = {
    "downloaded data": "data/raw/*",
    "data of a scenario": "data/scenarios/*/*",
    "data of the validation": "data/validation/*/*",
    "trained network": "runs/*/*/*/*",
    "scores": "scores/**/*",
    "what made a network": "made-by/*.json",
    "ground truth": "ground_truth/*.npz",
    "curves": "reports/curves/*.csv",
    "metrics": "reports/metrics/**/*.*",
    "validation table": "reports/validation/*/*",
    "figures": "reports/figures/*",
    "pages": "reports/*.*",
}
NOTES = {
    "DVC's rwlock": str(Path(".dvc", "tmp", "rwlock")),
    "note on MLflow": "mlflow.db.complete",
    "note on settings": ".checkpoints/networks-checked",
}
# Kept members, and the outs that are put together from them.
MEMBERS = {
    ".checkpoints/train/mixed-head-*/*": "runs/mixed/head",
    ".checkpoints/estimate/mixed-head-*/*": "scores/mixed",
    ".checkpoints/retrain/validation-*/*": "ground_truth/validation.npz",
}


def flipped(whole: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(whole))
    return whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :]


class Round:
    """One way of damaging, for all kinds of files."""

    def __init__(self, disturbed: Disturbed, how: str, keep_time: bool, seed: int) -> None:
        self.disturbed, self.root = disturbed, disturbed.root
        self.what = f"{how}, time {'kept' if keep_time else 'new'}"
        self.outcomes: list[tuple[str, str]] = []  # kind of file, what came of it
        self._how, self._keep_time = how, keep_time
        self._chance = random.Random(f"{seed} {self.what}")
        self._before = self.content()

    def content(self) -> dict[str, str]:
        return self.disturbed.content(timed=True)

    def damage(self, place: str) -> Path:
        """Damage one file, of those that a pattern fits."""
        files = [path for path in sorted(self.root.glob(place)) if path.is_file() and path.stat().st_size]
        path = self._chance.choice(files)
        before, mode = path.stat(), path.stat().st_mode
        path.chmod(mode | 0o200)
        path.write_bytes(HOW[self._how](path.read_bytes(), self._chance))
        path.chmod(mode)
        if self._keep_time:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return path

    def again(self) -> str:
        """`make repro`; what it said."""
        try:
            return self.disturbed.finish()
        except RuntimeError as error:
            return f"FAILED: {error}"

    def judge(self, kind: str, name: str, said: str, *words: str) -> None:
        """Note what came of the damage to a file that must be, as all others, what it was; or was said to be damaged.

        Args:
            words: what is said where it was not brought back: any of them.
        """
        after = self.content()
        other = [file for file in sorted({*after, *self._before}) if after.get(file) != self._before.get(file)]
        if other or said.startswith("FAILED"):
            self.outcomes.append((kind, f"FAULT, {self.what}, {name}: {other} {said[-2000:]}"))
        elif "Running stage" in said:
            self.outcomes.append((kind, "made again"))
        elif any(of in said for of in words):
            self.outcomes.append((kind, "said"))
        else:
            self.outcomes.append((kind, "brought back" if name in self._before else "harmless"))

    def outs(self) -> None:
        named = {kind: self.damage(place) for kind, place in {**OUTS, **NOTES}.items()}
        said = self.again()
        for kind, path in named.items():
            self.judge(kind, path.relative_to(self.root).as_posix(), said)

    def cache(self) -> None:
        """An object of DVC's cache, and the file that it would be brought back from it is gone."""
        files = [path for path in sorted((self.root / "runs").rglob("*")) if path.is_file()]
        gone = self._chance.choice(files)
        md5 = md5_of(gone)
        self.damage(f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}")
        gone.unlink()
        self.judge("object of DVC's cache", gone.relative_to(self.root).as_posix(), self.again())

    def lock(self) -> None:
        whole = read_yaml(self.root / "dvc.lock")["stages"]
        self.damage("dvc.lock")
        said = self.again()
        after = read_yaml(self.root / "dvc.lock")["stages"]
        if wrong := [name for name, entry in whole.items() if after.get(name) != entry]:  # one too many harms nobody
            said = f"FAILED: dvc.lock has other {wrong}: {said}"
        self.judge("dvc.lock", "dvc.lock", said, "dvc.lock was damaged")

    def members(self) -> None:
        """Finished members, when the outs have to be put together from them once more."""
        shutil.rmtree(self.root / ".dvc/cache/runs", ignore_errors=True)
        named = []
        for place, out in MEMBERS.items():
            named.append(self.damage(place).relative_to(self.root).as_posix())
            if (self.root / out).is_dir():
                for file in (self.root / out).rglob("*"):
                    if file.is_file():
                        md5 = md5_of(file)
                        (self.root / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}").unlink(missing_ok=True)
                shutil.rmtree(self.root / out)
            else:
                (self.root / out).unlink()
        said = self.again()
        for name in named:
            self.judge("finished member of a stage", name, said)
            if self.outcomes[-1][1] == "made again" and f"{Path(name).parent} is damaged" not in said:
                self.outcomes[-1] = self.outcomes[-1][0], f"FAULT, {self.what}, {name}: it was used: {said[-2000:]}"

    def database(self) -> None:
        """The results do not depend on it; it is said, or what it says is the same."""
        database = self.root / "mlflow.db"
        copy = shutil.copy(database, self.root / "mlflow.db.copy")
        before = dump(database)
        self.damage("mlflow.db")
        said = self.again()
        self.judge("mlflow.db", "mlflow.db", said, "warning: MLflow was not brought up to date", "mlflow.db was empty")
        kind, outcome = self.outcomes[-1]
        if outcome == "harmless" and dump(database) != before:
            self.outcomes[-1] = kind, f"FAULT, {self.what}: other runs, and nothing is said: {said[-2000:]}"
        shutil.move(copy, database)
        for name in ("mlflow.db-wal", "mlflow.db-shm"):
            (self.root / name).unlink(missing_ok=True)
        self.again()


def dump(database: Path) -> list[tuple[object, ...]]:
    """The runs, with their metrics and settings."""
    found: list[tuple[object, ...]] = []
    with closing(sqlite3.connect(database)) as opened, suppress(sqlite3.DatabaseError):
        for table in ("runs", "metrics", "params", "tags"):
            found += sorted(opened.execute(f"select * from {table}"), key=repr)
    return found


def rounds(disturbed: Disturbed, seed: int, done: list[str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for keep_time in (True, False):
        for how in HOW:
            for part in (Round.outs, Round.cache, Round.lock, Round.members, Round.database):
                name = f"{how} {keep_time} {part.__name__}"
                if name not in done:
                    one = Round(disturbed, how, keep_time, seed)
                    part(one)
                    yield name, one.outcomes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pipeline.corruptions", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work, and to go on with what was begun there")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="turnover-corruptions-") as temporary:
        folder = Path(asked.folder or temporary).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "rounds.jsonl"
        disturbed = Disturbed(folder, [])
        if not file.exists():
            disturbed.wipe()
            disturbed.finish()
            disturbed.project.run("git", "add", "--force", "reports", "ground_truth", "dvc.lock")
            disturbed.project.commit()
            file.touch()
        found = dict(json.loads(line) for line in file.read_text().splitlines())
        for name, outcomes in rounds(disturbed, asked.seed, list(found)):
            found[name] = outcomes
            with file.open("a") as lines:
                lines.write(json.dumps([name, outcomes]) + "\n")
    every = [(kind, outcome) for outcomes in found.values() for kind, outcome in outcomes]
    faults = [outcome for _, outcome in every if outcome.startswith("FAULT")]
    table: dict[str, dict[str, int]] = {}
    for (kind, outcome), count in Counter((kind, outcome.split(",")[0]) for kind, outcome in every).items():
        table.setdefault(kind, {})[outcome] = count
    print(json.dumps({"seed": asked.seed, "corruptions": len(every), "outcomes": table, "faults": faults}, indent=1))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
