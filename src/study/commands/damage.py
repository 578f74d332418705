"""Outs that are not what `dvc.lock` says they are are brought back before the pipeline runs."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

from study.context.lock import md5_of, other_outs


def bring_back(root: Path) -> None:
    """Take outs that are not what the lock says from DVC's cache, or from the last commit, so that no stage runs.

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
        for name, md5s in others.items():
            with suppress(DvcException):  # no out any more
                (out,) = repo.find_outs_by_path(str(root / name))
                if not out.use_cache:
                    _take_from_git(root, name, md5s)
                elif not out.changed_cache():  # DVC would remove what it cannot bring back
                    repo.checkout(targets=[str(root / name)], force=True)
    for name in sorted(others.keys() - other_outs(root).keys()):
        print(f"warning: {name} was not what dvc.lock says; it is now, without a run", file=sys.stderr)


def _take_from_git(root: Path, name: str, md5s: set[str]) -> None:
    """Bring back an out as it was committed, if that is what the lock says."""
    try:
        command = ["git", "archive", "HEAD", "--", name]
        archive = subprocess.run(command, cwd=root, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # not in git
        return
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            for member in files:
                if (content := files.extractfile(member)) is not None:
                    path = Path(folder) / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
        if md5_of(Path(folder) / name) in md5s:
            from study.artefacts.files import writing  # numpy is not needed before

            with writing(root / name) as beside:
                shutil.move(Path(folder) / name, beside)
