"""Outs whose bytes are not those that `dvc.lock` names, also where DVC, which goes by size and time, sees no change."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from study.context.declaration import read_yaml


def other_outs(root: Path) -> list[str]:
    """Outs that are there and are not what the lock says they are: damaged, or made by something else."""
    path = root / "dvc.lock"
    stages: dict[str, Any] = (read_yaml(path).get("stages") or {}) if path.exists() else {}
    outs = {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
    return [name for name, md5 in outs.items() if (root / name).exists() and md5_of(root / name) != md5]


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
    """Take such outs from DVC's cache; those that are not in it get a new time, so that DVC looks at them and acts."""
    names = other_outs(root)
    if not names:
        return
    for name in names:
        for file in [root / name, *(root / name).rglob("*")]:
            os.utime(file)
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        for name in names:
            with suppress(DvcException):  # no out any more
                (out,) = repo.find_outs_by_path(str(root / name))
                if out.use_cache and not out.changed_cache():  # DVC would remove what it cannot bring back
                    repo.checkout(targets=[str(root / name)], force=True)
    for name in set(names) - set(other_outs(root)):
        print(f"warning: {name} was not what dvc.lock says; it is from DVC's cache again", file=sys.stderr)
