"""Show the runs in MLflow: `python -m study.commands.ui`, or `make ui`.

MLflow's own address opens a page for traces of language models. This one opens the experiment's runs, and is printed
as soon as the server answers.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import webbrowser
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import urlopen

from study.commands.running import page_arguments, status_of
from study.context.lifetime import end_with_make, signal_when_orphaned
from study.tracking import view
from study.tracking.place import Place, TrackingError, place_of
from turnover.errors import UserError

HOST, PORT = "127.0.0.1", 5000  # whoever reaches the server may delete runs
START = 300.0  # seconds that the server may take to answer, on a machine with other work to do


def show(root: Path, port: int | None = None, *, browser: bool = True) -> None:
    """Serve the runs of the repository at `root` until interrupted; or name the server that has them.

    Args:
        root: the repository.
        port: of the server; None: 5000, or another that is free.
        browser: open the address, where there is a screen.

    Raises:
        UserError: the port is taken, or no server comes up.
    """
    try:
        place = place_of(root)
    except TrackingError as error:
        raise UserError(str(error)) from error
    if place.uri.startswith(("http://", "https://")):
        _say(address(place.uri.rstrip("/"), place.experiment), browser)
        return
    server = f"http://{HOST}:{free_port(port)}"
    with start(place, server) as process:
        try:
            wait_for(process, server)
            _say(address(server, place.experiment), browser)
            process.wait()
        except KeyboardInterrupt:
            pass  # the way to end it
        finally:
            process.terminate()


def free_port(wanted: int | None) -> int:
    """The wanted port; where none is wanted 5000, or any free one if that is taken.

    Raises:
        UserError: the wanted one is taken.
    """
    for port in (PORT, 0) if wanted is None else (wanted,):
        with socket.socket() as tried, suppress(OSError):
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((HOST, port))
            found: int = tried.getsockname()[1]
            return found
    raise UserError(f"port {wanted} is taken: name another one with --port, or none")


def start(place: Place, server: str) -> subprocess.Popen[bytes]:
    """MLflow's server on the store, which ends with this process; its warnings go to the terminal."""
    env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", **os.environ}
    env["PYTHONWARNINGS"] = "ignore"  # of MLflow's own dependencies
    port = server.rpartition(":")[2]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", place.uri, "--host", HOST]
    # One worker: each of the four that are the default imports MLflow again.
    few = ["--port", port, "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    ends = partial(signal_when_orphaned, os.getpid())
    return subprocess.Popen([*command, *few], cwd=place.home, env=env, preexec_fn=ends)


def wait_for(process: subprocess.Popen[bytes], server: str) -> None:
    """Return when the server answers.

    Raises:
        UserError: it ended, or took longer than `START` seconds.
    """
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"MLflow's server ended with status {process.returncode}; it said why above")
        with suppress(OSError), urlopen(f"{server}/health", timeout=5):
            return
        time.sleep(0.2)
    raise UserError(f"MLflow's server does not answer at {server} after {START:.0f} s")


def address(server: str, experiment: str) -> str:
    """Where the experiment's runs are shown; the server's own page where it does not have the experiment yet."""
    try:
        with urlopen(f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(experiment)}") as answer:
            found: dict[str, Any] = json.load(answer)["experiment"]
    except HTTPError as error:
        if error.code == 404:
            print(f"There are no runs in {experiment!r} yet: `make repro` makes them", file=sys.stderr)
        return server  # or it asks for a password, as the page will
    except (URLError, OSError) as error:
        raise UserError(f"the server that MLFLOW_TRACKING_URI names does not answer: {error}") from error
    shared = any(tag["key"] == view.TAG for tag in found.get("tags", ()))  # one made elsewhere has no view of ours
    shown = f"&viewStateShareKey={view.KEY}" if shared else ""
    return f"{server}/#/experiments/{found['experiment_id']}/runs?workflowType=machine_learning{shown}"


def _say(where: str, browser: bool) -> None:
    print(f"The runs: {where}", flush=True)
    # Without a screen, Python would open a browser for texts in this terminal.
    if browser and (sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        webbrowser.open(where)


def main() -> int:
    end_with_make()
    arguments = page_arguments("ui", __doc__, PORT)
    return status_of(lambda root: show(root, arguments.port, browser=not arguments.no_browser))


if __name__ == "__main__":
    sys.exit(main())
