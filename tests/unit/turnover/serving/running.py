"""`turnover explore` in a process of its own, and questions to it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ROOT

KIND = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = KIND
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            found = connection.getresponse()
            return found.status, found.read(), dict(found.getheaders())
        finally:
            connection.close()

    def ask(self, content: bytes, query: str = "") -> tuple[int, dict[str, Any]]:
        status, body, _ = self.request("POST", f"/ask{query}", content)
        return status, json.loads(body)


@contextmanager
def running(folder: Path, *arguments: str, module: str = "turnover.auditing.command") -> Iterator[Server]:
    """`turnover explore FOLDER` until the end of the block, when it is interrupted."""
    command = [sys.executable, "-m", module, "explore", str(folder), "--port=0", "--no-browser", "--threads=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"}
    with subprocess.Popen([*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("The explorer: "):
                    address = line.split()[2]
                    break
            else:
                raise AssertionError(f"no address, status {process.wait()}")
            yield Server(process, int(address.rstrip("/").rpartition(":")[2]))
        finally:
            process.terminate()
