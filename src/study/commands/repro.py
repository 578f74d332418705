"""What `make repro` does: check and clear, run the pipeline, bring MLflow up to date: `python -m study.commands.repro`.

DVC runs in this process, because two of its habits are mended here. It rewrites `dvc.lock` in place after every stage,
so that a kill in that moment leaves half of it; here the file is written beside and renamed. And what a killed or
starved DVC leaves in its `rwlock`, the note of who reads and writes what, would stop every later run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from study.commands import backfill, prepare
from study.commands.damage import bring_back
from study.context.lifetime import end_with_make

# With them Python would not find the stages, or end at any warning of a library.
_NOT_FOR_STAGES = ("PYTHONSAFEPATH", "PYTHONWARNINGS")
_HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")
_CLOCKS = 10.0  # seconds by which the time of a process and that of a file may disagree


def run(root: Path, targets: list[str]) -> int:
    """Prepare, `dvc repro`, backfill. Returns the exit status: that of the first part that failed."""
    mend_lock(root)
    status = prepare.main([])
    if status:
        return status
    clear_rwlock(root / ".dvc" / "tmp" / "rwlock")
    go_without_git(root)
    for name in _NOT_FOR_STAGES:
        os.environ.pop(name, None)
    write_whole_files()
    bring_back(root)
    from dvc.cli import main as dvc

    status = int(dvc(["repro", *targets]))
    if not status and bring_back(root):  # what it took from its cache unseen
        status = int(dvc(["repro", *targets]))
    return status or backfill.main([])


def go_without_git(root: Path) -> None:
    """Tell DVC, in its local settings, that there is no git: a download as an archive has none.

    Nor has one that lies in another project, whose git ignores it: DVC would refuse to work there.
    """
    config = root / ".dvc" / "config.local"
    if any((folder / ".git").exists() for folder in (root, *root.parents)) and not _ignored(root / "dvc.yaml"):
        return
    text = config.read_text(encoding="utf-8") if config.exists() else ""
    if "no_scm" not in text:
        _replace(config, lambda file: file.write(f"{text}[core]\n    no_scm = true\n"))
        print("note: there is no git here, so DVC is told to work without", file=sys.stderr)


def _ignored(path: Path) -> bool:
    try:
        return subprocess.run(["git", "check-ignore", "--quiet", path.name], cwd=path.parent).returncode == 0
    except OSError:  # git is not installed
        return False


def mend_lock(root: Path) -> None:
    """Take a damaged `dvc.lock` from the last commit, or go on without one where that has none; say so.

    A plain `dvc repro` that is killed may leave it so. What was finished since is not made again: it is kept elsewhere.
    """
    path = root / "dvc.lock"
    if not path.exists() or _is_whole(path.read_bytes()):
        return
    command = ["git", "show", "HEAD:dvc.lock"]
    try:
        committed = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, no commit, or not in it
        committed = b""
    if not _is_whole(committed):
        path.unlink()
        print("warning: dvc.lock was damaged, and git has no other; it is written anew", file=sys.stderr)
        return
    _replace(path, lambda file: file.write(committed.decode()))
    print("warning: dvc.lock was damaged; it is that of the last commit again", file=sys.stderr)


def _replace(path: Path, write: Callable[[TextIO], object]) -> None:
    """Give a file new content: all of it, or what it had stays."""
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("w", encoding="utf-8") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _is_whole(content: bytes) -> bool:
    """Whether a lock file is all there, and what DVC takes for one: it writes the schema first, and ends every line."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA as SCHEMA
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
    from voluptuous import Invalid

    if not (content.startswith(b"schema:") and content.endswith(b"\n")):
        return False
    try:
        stages = SCHEMA(YAML(typ="safe").load(content.decode()))["stages"]
        return all({"cmd", "outs"} <= set(entry) and _complete(entry) for entry in stages.values())
    except (UnicodeDecodeError, YAMLError, Invalid, KeyError, TypeError, AttributeError):
        return False


def _complete(entry: dict[str, Any]) -> bool:
    parts = [part for kind in ("deps", "outs") for part in entry.get(kind, [])]
    return all(part.get("hash") == "md5" and _HASH.fullmatch(part.get("md5", "")) for part in parts)


def write_whole_files() -> None:
    """From now on DVC, in this process, replaces YAML files as a whole."""
    import dvc.utils.serialize._common as common

    def dump(path: Any, data: Any, dumper: Any, fs: Any = None, **arguments: Any) -> None:
        _replace(Path(path), lambda file: dumper(data, file, **arguments))

    common._dump_data = dump


def clear_rwlock(path: Path) -> None:
    """Remove DVC's note of who reads and writes, unless a DVC that lives is in it.

    It may be cut off, and its process ids may belong to other programs by now: to this one, too, in a container.
    """
    import psutil  # type: ignore[import-untyped]  # DVC brings it

    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        entries = [*noted.get("write", {}).values(), *(entry for of in noted.get("read", {}).values() for entry in of)]
        for entry in entries:
            with suppress(psutil.Error):
                process = psutil.Process(entry["pid"])
                words = process.cmdline()
                began_later = process.create_time() > path.stat().st_mtime + _CLOCKS
                if entry["pid"] == os.getpid() or began_later:
                    continue
                if any("dvc" in word or "study.commands.repro" in word for word in words):
                    return
    except FileNotFoundError:
        return
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        pass
    path.unlink(missing_ok=True)


def main() -> int:
    end_with_make()
    parser = argparse.ArgumentParser(prog="python -m study.commands.repro", description=__doc__)
    parser.add_argument("targets", nargs="*", help="stages, such as train@mixed-head; none: the whole pipeline")
    return run(Path.cwd(), parser.parse_args().targets)


if __name__ == "__main__":
    sys.exit(main())
