"""Kill `turnover audit` at random moments and start it again, until so many kills; it must end with the same bytes.

    python -m tests.unit.turnover.auditing.kills --times 10 --seed 0

First it runs once without a kill, which gives the bytes and the time; every kill (SIGKILL) comes at a random moment of
that time. After each, the folder of the audit is not there, or complete.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support import ROOT
from tests.unit.turnover.auditing.examples import pictures

OPTIONS = ("--epochs=30", "--hidden=64", "--threads=1", "--device=cpu")


def content(folder: Path) -> dict[str, bytes]:
    """The files of an audit, but for how long it took."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "seconds.json"}


def start(data: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "turnover.auditing.command", "audit", str(data), "--out", str(out), *OPTIONS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(data: Path, out: Path) -> float:
    """Run it to its end: seconds."""
    begun = time.monotonic()
    process = start(data, out)
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"it ended with {process.returncode}: {errors.decode()}")
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as place:
        data, out = Path(place) / "set", Path(place) / "audit"
        pictures(data, count=options.images)
        seconds = finish(data, Path(place) / "whole")
        wanted = content(Path(place) / "whole")
        print(f"without a kill: {seconds:.1f} s, {len(wanted)} files", flush=True)
        kills = 0
        while kills < options.times:
            after = moments.uniform(0.0, seconds)
            process = start(data, out)
            try:
                process.wait(after)
                print(f"done before {after:.1f} s; the next one begins anew", flush=True)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                print(
                    f"kill {kills} after {after:.1f} s: {'complete' if out.exists() else 'nothing there'}", flush=True
                )
            if out.exists():
                assert content(out) == wanted, "the folder is there, with other bytes"
                for path in out.iterdir():
                    path.unlink()
                out.rmdir()
        finish(data, out)
        assert content(out) == wanted, "other bytes"
        left = sorted(path.name for path in Path(place).iterdir())
        assert left == ["audit", "set", "whole"], f"left behind: {left}"
        print(f"{kills} kills, and the same bytes in all {len(wanted)} files")


if __name__ == "__main__":
    main()
