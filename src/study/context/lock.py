"""Outs whose bytes are not those that `dvc.lock` names, also where DVC, which goes by size and time, sees no change."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from study.context.declaration import within


def other_outs(root: Path, inside: tuple[str, ...] | None = None) -> dict[str, set[str]]:
    """Outs that are there and are not what the lock says they are, damaged or made by something else.

    Args:
        root: the repository.
        inside: look at outs inside of these paths only.

    Returns:
        Their paths, with the hashes that the lock has of each: of stages that were renamed, several.
    """
    outs: dict[str, set[str]] = defaultdict(set)
    for stage in _stages(root / "dvc.lock").values():
        for out in stage.get("outs", []):
            if inside is None or within(out["path"], inside):
                outs[out["path"]].add(out["md5"])
    return {name: md5s for name, md5s in outs.items() if (root / name).exists() and md5_of(root / name) not in md5s}


def md5_of(path: Path) -> str:
    """The hash that DVC gives a file; for a folder, that of the sorted list of its files."""
    if not path.is_dir():
        return _md5(path)
    files = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
    listed = [{"md5": _md5(file), "relpath": name} for name, file in files]
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _stages(lock: Path) -> dict[str, Any]:
    from ruamel.yaml import YAML

    if not lock.exists():
        return {}
    return YAML(typ="safe").load(lock.read_text(encoding="utf-8")).get("stages") or {}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
