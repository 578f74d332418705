"""Outs whose bytes are not those that `dvc.lock` names, also where DVC, which goes by size and time, sees no change."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from study.context.declaration import read_yaml


def other_outs(root: Path) -> dict[str, str]:
    """Outs that are there and are not what the lock says they are, damaged or made by something else; their hashes."""
    path = root / "dvc.lock"
    stages: dict[str, Any] = (read_yaml(path).get("stages") or {}) if path.exists() else {}
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    return {name: md5 for name, md5 in outs.items() if (root / name).exists() and md5_of(root / name) != md5}


def md5_of(path: Path) -> str:
    """The hash that DVC gives a file; for a folder, that of the sorted list of its files."""
    if not path.is_dir():
        return _md5(path)
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    listed = [{"md5": _md5(file), "relpath": name} for name, file in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def bring_back(root: Path) -> None:
    """Take such outs from DVC's cache, or from the last commit, so that no stage runs for them.

    Those that are in neither get a new time: DVC looks at them, and acts.
    """
    others = other_outs(root)
    if not others:
        return
    for name in others:
        for file in [root / name, *(root / name).rglob("*")]:
            os.utime(file)
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        for name, md5 in others.items():
            with suppress(DvcException):  # no out any more
                (out,) = repo.find_outs_by_path(str(root / name))
                if not out.use_cache:
                    _take_from_git(root, name, md5)
                elif not out.changed_cache():  # DVC would remove what it cannot bring back
                    repo.checkout(targets=[str(root / name)], force=True)
    for name in sorted(others.keys() - other_outs(root).keys()):
        print(f"warning: {name} was not what dvc.lock says; it is now, without a run", file=sys.stderr)


def _take_from_git(root: Path, name: str, md5: str) -> None:
    """Bring back an out as it was committed, if that is what the lock says."""
    archive = subprocess.run(["git", "archive", "HEAD", "--", name], cwd=root, capture_output=True, check=False)
    if archive.returncode:  # not in git
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            for member in files:
                if (content := files.extractfile(member)) is not None:
                    path = Path(folder) / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
        if md5_of(Path(folder) / name) == md5:
            from study.artefacts.files import writing  # numpy is not needed before

            with writing(root / name) as beside:
                shutil.move(Path(folder) / name, beside)
