"""Files out of a Debian package: with no root rights, no earlier `apt-get update`, no trace on the system."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from study.data.sources.dataset import UnavailableError

SECONDS = 300  # for each of the three commands; a network that is not there fails much sooner

# A file and not `-o` options, because only a file can clear the lists of commands that a system has apt run
# after an update (in containers these empty the system's own package cache).
CONFIG = """\
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
Debug::NoLocking "true";
APT::Sandbox::User "";
Acquire::Retries "0";
Acquire::http::Timeout "10";
Acquire::https::Timeout "10";
Acquire::Languages "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


def package_files(package: str, *, ending: str) -> dict[str, bytes]:
    """The files in the newest `package` whose names end with `ending`: file name -> bytes.

    Raises `UnavailableError` where apt is missing, its servers do not answer, or there is no such package.
    """
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise UnavailableError(f"{' and '.join(missing)} not found: not a Debian-like system")
    try:
        with tempfile.TemporaryDirectory(prefix="turnover-", ignore_cleanup_errors=True) as scratch:
            return _extract(package, ending, Path(scratch))
    except OSError as error:
        raise UnavailableError(f"no room to unpack it: {error.strerror or error}") from error


def _extract(package: str, ending: str, folder: Path) -> dict[str, bytes]:
    config = folder / "apt.conf"
    config.write_text(CONFIG.format(folder=folder))
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    apt = ["apt-get", "-q", "-c", str(config)]
    # One broken repository among many makes `update` fail, and none at all may leave it at 0:
    # what counts is whether the package can be downloaded afterwards.
    update = _run([*apt, "update"], folder)
    download = _run([*apt, "download", package], folder)
    packages = sorted(folder.glob("*.deb"))
    if download.returncode or not packages:
        complaints = [text for text in (_complaint(update), _complaint(download)) if text]
        raise UnavailableError("; ".join(complaints) or "apt-get downloaded nothing")
    unpacked = _run(["dpkg-deb", "-x", str(packages[0]), str(folder / "files")], folder)
    if unpacked.returncode:
        raise UnavailableError(_complaint(unpacked) or "dpkg-deb could not unpack it")
    return {path.name: path.read_bytes() for path in (folder / "files").rglob(f"*{ending}")}


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, env={**os.environ, "LC_ALL": "C"}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{command[0]} gave no result in {SECONDS} seconds") from error


def _complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The first error or warning that a command wrote, in a few words."""
    lines = [line.strip() for line in done.stderr.splitlines()]
    lines.sort(key=lambda line: not line.startswith(("E:", "dpkg-deb: error")))  # errors before warnings
    return next((line[:200] for line in lines if line.startswith(("E:", "W:", "dpkg-deb:"))), "")
