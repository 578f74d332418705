"""What the commands share: how they end, and other programs run in a clone with the clone's own code."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from study.context.lifetime import signal_when_orphaned
from study.tracking.place import default_uri
from turnover.errors import UserError


def page_arguments(module: str, doc: str | None, port: int) -> argparse.Namespace:
    """The command line of a command that serves pages and opens one: ``port`` (None: not said), ``no_browser``."""
    parser = argparse.ArgumentParser(prog=f"python -m study.commands.{module}", description=doc)
    parser.add_argument("--port", type=int, help=f"of the server (default: {port}, or another that is free)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    return parser.parse_args()


def status_of(command: Callable[[Path], object]) -> int:
    """Call a command with the repository's folder. Returns the exit status: 1 and one sentence where it failed."""
    try:
        command(Path.cwd())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(map(str, error.cmd))} failed with status {error.returncode}", file=sys.stderr)
    except KeyboardInterrupt:
        print("error: interrupted; run it again to go on", file=sys.stderr)
        return 130
    else:
        return 0
    return 1


def run_in(where: Path, *command: str, capture: bool = False) -> str:
    """Run a program in the clone at `where`, which ends with this process; the developer's own runs in MLflow stay as
    they are.

    Args:
        where: the clone.
        command: program and arguments.
        capture: return what it prints, instead of showing it.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    env = {**os.environ, "PYTHONPATH": str(where / "src"), "MLFLOW_TRACKING_URI": default_uri(where)}
    env.pop("DVC_ROOT", None)  # where tracking would look for the repository
    pipe = subprocess.PIPE if capture else None
    orphan = partial(signal_when_orphaned, os.getpid())
    with subprocess.Popen(command, cwd=where, env=env, text=True, stdout=pipe, preexec_fn=orphan) as process:
        try:
            out = process.communicate()[0]
        except KeyboardInterrupt:
            # Ctrl-C reached the program too: what it is saving must not be cut short by a kill.
            process.wait()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return out or ""
