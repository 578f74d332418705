"""`make ui`: the address at which MLflow shows the runs, without MLflow."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from study.commands import ui
from study.tracking import view
from turnover.errors import UserError

EXPERIMENTS = {
    "turnover": {"experiment_id": "7", "tags": [{"key": view.TAG, "value": "{}"}]},
    "my%20own": {"experiment_id": "8"},
}


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = EXPERIMENTS.get(self.path.partition("experiment_name=")[2])
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"experiment": found}).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer((ui.HOST, 0), _Server) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://{ui.HOST}:{served.server_address[1]}"
        served.shutdown()


def test_the_address_opens_the_runs_in_our_view(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    opened = f"{server}/#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=turnover"
    assert ui.address(server, "turnover") == opened
    assert ui.address(server, "my own") == f"{server}/#/experiments/8/runs?workflowType=machine_learning"
    assert capsys.readouterr().err == ""


def test_a_store_without_runs_says_how_to_make_them(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.address(server, "another") == server
    assert "no runs in 'another' yet: `make repro` makes them" in capsys.readouterr().err


def test_a_server_that_somebody_runs_is_named_and_none_is_started(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setattr(ui, "start", None)
    ui.show(tmp_path, browser=False)
    assert capsys.readouterr().out.startswith(f"The runs: {server}/#/experiments/7/")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="does not answer"):
        ui.show(tmp_path, browser=False)


def test_a_taken_port_is_left_to_who_has_it() -> None:
    with socket.socket() as taken:
        taken.bind((ui.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is taken: name another one"):
            ui.free_port(port)
    assert ui.free_port(None) > 0


def test_a_server_that_ends_at_once_is_an_error() -> None:
    ended = [sys.executable, "-c", "raise SystemExit(3)"]
    with subprocess.Popen(ended) as process, pytest.raises(UserError, match="ended with status 3"):
        ui.wait_for(process, "http://127.0.0.1:9")
