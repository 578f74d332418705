"""Fingerprints: what made an artefact, as one short text that changes when any part of it does."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from study.context.stage import Stage

_CODE = ("src/", "stages/")
# What the work that is kept by `work_key` computes with.
_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "dattri", "kronfluence", "cleanlab")


def fingerprint(stage: Stage) -> str:
    """Fingerprint of a stage's command, declared dependencies (by content) and declared params."""
    deps = {dep: content_hash(stage.root / dep) for dep in sorted(stage.declared.deps)}
    params = {key: _raw(stage.raw_params, key) for key in sorted(stage.declared.params)}
    return hash_of({"cmd": stage.declared.cmd, "deps": deps, "params": params})


def work_key(stage: Stage) -> str:
    """As `fingerprint`, but code counts by what it does, see `member_key`: for work that is kept."""
    import torch

    data = [dep for dep in stage.declared.deps if not dep.startswith(_CODE)]
    versions = {name: _version(name) for name in _PACKAGES}
    capability = torch.backends.cpu.get_cpu_capability()
    return member_key(stage, data, stage.declared.params, {"versions": versions, "processor": capability})


def member_key(stage: Stage, data: Iterable[str], params: Iterable[str], also: Mapping[str, Any]) -> str:
    """Fingerprint of what decides the content of one member of a stage item.

    Code counts by what it does: comments, docstrings and layout do not. All code that the stage declares counts.

    Args:
        stage: the item.
        data: the declared dependencies (or paths inside of them) that this member reads.
        params: the declared settings that it reads.
        also: what else decides it: which member it is, and what is resolved on this machine.
    """
    code = {dep: code_hash(stage.root / dep) for dep in stage.declared.deps if dep.startswith(_CODE)}
    read = {path: content_hash(stage.dep(path)) for path in sorted(data)}
    # Typed, so that a default of a setting that params.yaml leaves out counts too.
    values = {key: _plain(stage.param(key)) for key in sorted(params)}
    return hash_of({"stage": stage.name, "code": code, "data": read, "params": values, "also": dict(also)})


def hash_of(value: Any) -> str:
    """Hash of any JSON-like value, 20 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:20]


def content_hash(path: Path) -> str:
    """Hash of a file's bytes, or of the names and bytes of all files in a folder (caches of Python left out)."""
    return _file_hash(path) if not path.is_dir() else hash_of({name: _file_hash(p) for name, p in _files(path)})


def code_hash(path: Path) -> str:
    """As `content_hash`, but Python files by their syntax tree without docstrings."""
    if not path.is_dir():
        return _code_file_hash(path)
    return hash_of({name: _code_file_hash(p) for name, p in _files(path)})


def _files(folder: Path) -> list[tuple[str, Path]]:
    found = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return [(p.relative_to(folder).as_posix(), p) for p in found]


def _code_file_hash(path: Path) -> str:
    if path.suffix != ".py":
        return _file_hash(path)
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            # Also a text that stands for nothing below a name is documentation.
            node.body = [part for part in node.body if not _is_text(part)]
    return hashlib.sha256(_dump(tree).encode()).hexdigest()


def _dump(node: ast.AST) -> str:
    """As `ast.dump`, but alike in all versions of Python: what is empty is left out, also where a version adds it."""
    fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
    return f"{type(node).__name__}({', '.join(f'{name}={_dump_value(value)}' for name, value in fields)})"


def _dump_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_dump_value, value))}]"
    return _dump(value) if isinstance(value, ast.AST) else repr(value)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _file_hash(path: Path) -> str:
    about = path.stat()
    return _hash_of_version(path, about.st_size, about.st_mtime_ns)


@cache  # one process asks for the same data folder once for every member
def _hash_of_version(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    """Settings as JSON has them."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, dict) else value


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def _raw(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params[part]
    return params
