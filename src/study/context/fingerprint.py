"""Fingerprints: what made an artefact, as one short text that changes when any part of it does."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from study.context.stage import Stage


def fingerprint(stage: Stage) -> str:
    """Fingerprint of a stage's command, declared dependencies (by content) and declared params."""
    deps = {dep: content_hash(stage.root / dep) for dep in sorted(stage.declared.deps)}
    params = {key: _raw(stage.raw_params, key) for key in sorted(stage.declared.params)}
    return hash_of({"cmd": stage.declared.cmd, "deps": deps, "params": params})


def hash_of(value: Any) -> str:
    """Hash of any JSON-like value, 20 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


def content_hash(path: Path) -> str:
    """Hash of a file's bytes, or of the names and bytes of all files in a folder (caches of Python left out)."""
    if not path.is_dir():
        return _file_hash(path)
    files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return hash_of({str(p.relative_to(path)): _file_hash(p) for p in files})


def _file_hash(path: Path) -> str:
    about = path.stat()
    return _hash_of_version(path, about.st_size, about.st_mtime_ns)


@cache  # one process asks for the same data folder once for every run
def _hash_of_version(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _raw(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params[part]
    return params
