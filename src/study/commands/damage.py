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
from typing import Any

from study.context.lock import md5_of, other_outs


def bring_back(root: Path) -> bool:
    """Take outs that are not what the lock says from DVC's cache, or from the last commit, so that no stage runs.

    Those that are in neither get a new time: DVC looks at them, and acts. Returns whether there was any.
    """
    others = other_outs(root)
    if not others:
        return False
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
                    continue
                _drop_damaged_objects(out)
                if not out.changed_cache():  # DVC would remove what it cannot bring back
                    repo.checkout(targets=[str(root / name)], force=True)
    for name in sorted(others.keys() - other_outs(root).keys()):
        print(f"warning: {name} was not what dvc.lock says; it is now, without a run", file=sys.stderr)
    return True


def _drop_damaged_objects(out: Any) -> None:
    """Remove from DVC's cache what is not what its name says: DVC believes every object that is write-protected."""

    def is_damaged(oid: str) -> bool:
        path = Path(out.cache.oid_to_path(oid))
        if not path.exists() or md5_of(path) == oid.removesuffix(".dir"):
            return False
        path.unlink()
        return True

    if out.hash_info and not is_damaged(out.hash_info.value) and out.hash_info.isdir:
        for _, _, object_info in out.get_obj() or ():
            is_damaged(object_info.value)


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
