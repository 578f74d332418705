"""`make ui` with MLflow's real server: its address leads to the experiment, and the server ends with the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from study.tracking.store import Store
from tests.support import ROOT

pytestmark = pytest.mark.pipeline


def test_the_server_comes_up_and_ends(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DVC_"))}
    env |= {"PYTHONPATH": str(ROOT / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    experiment = Store(tmp_path).experiment_id
    command = [sys.executable, "-m", "study.commands.ui", "--no-browser"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background does not hear it
    with (
        subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True, preexec_fn=heard
        ) as process,
        ExitStack() as ends,
    ):
        ends.callback(process.kill)  # else a failure waits for it for ever
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("The runs: "))
        server, _, path = line.removeprefix("The runs: ").strip().partition("/#")
        assert path == f"/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey=turnover"
        with urlopen(server) as page:
            assert b"MLflow" in page.read()
        process.send_signal(signal.SIGINT)  # to the command alone: Ctrl-C would reach the server too
        assert process.wait(30) == 0
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urlopen(server, timeout=1).close()
        except (URLError, OSError):
            return
        time.sleep(0.2)
    pytest.fail("the server outlived the command")
