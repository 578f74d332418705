"""A PostgreSQL of one's own, for as long as a test takes: reached by a socket in a folder, and by nobody else."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("initdb", "pg_ctl")


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database, as SQLAlchemy takes it. Skips the test where none can be started."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no PostgreSQL on this machine: {', '.join(missing)} not in PATH")
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    who = _who()
    with tempfile.TemporaryDirectory() as name:  # not pytest's own folder, which is closed to other users
        folder = Path(name)
        if who:
            shutil.chown(folder, who["user"])
        data = folder / "data"
        _run("initdb", "--pgdata", data, "--auth=trust", "--username=turnover", "--no-sync", cwd=folder, **who)
        options = f"-k {folder} -h '' -F"
        control = ("pg_ctl", "--pgdata", data, "--wait", "--log", folder / "log", "--options", options)
        _run(*control, "start", cwd=folder, **who)
        try:
            yield f"postgresql+psycopg://turnover@/postgres?host={folder}"
        finally:
            _run(*control, "--mode=immediate", "stop", cwd=folder, **who)


def _who() -> dict[str, Any]:
    """PostgreSQL does not run as root: then the user that its package makes."""
    if os.geteuid():
        return {}
    try:
        found = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return {"user": found.pw_name, "group": found.pw_gid, "extra_groups": []}


def _run(*command: str | Path, **options: Any) -> None:
    done = subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    assert done.returncode == 0, done.stderr.decode()
