"""The members of a stage item, such as the seeds of a training: made side by side, and kept once they are finished.

A member is known by the fingerprint of what decides its content. Those that an earlier run of the stage left in
`.checkpoints` are taken from there, so that a seed more costs one training, also where DVC would run the whole item.
The stage's out is put together from copies when all members are there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.artefacts.files import writing
from study.context.processes import Report, in_processes

# How many finished versions of a member stay: going back to an earlier setting or commit then costs nothing.
_KEPT = 3
_MANIFEST = "member.json"


@dataclass(frozen=True)
class Member:
    """One part of an item that is made on its own.

    Args:
        name: unique in the stage, such as ``mixed-head-0``.
        place: its folder inside of the stage's out, such as ``0``.
        key: fingerprint of all that decides its content.
    """

    name: str
    place: str
    key: str


def make_members(
    members: Sequence[Member],
    work: Callable[[Member, Path, Report], None],
    *,
    store: Path,
    out: Path,
    processes: int,
    on_report: Callable[[Member, str, Any], None] = lambda member, kind, value: None,
    fork: bool = True,
) -> None:
    """Make the members that are not there yet, at most `processes` at once, then the folder `out` of them all.

    Args:
        members: what `out` consists of.
        work: makes one member in a process of its own: writes its files into the given folder.
        store: folder of the finished members, one for each stage.
        out: the stage's output; it appears only when it is complete.
        processes: at most so many members at a time.
        on_report: called in this process with what a member's work reports.
        fork: see `study.context.processes.in_processes`.

    Raises:
        UserError: the work of a member says so; the other ones were asked to save and stop.
        Interrupted: somebody asked to stop; all members have saved what they can.
    """
    wanted = {member.name: member for member in members}
    missing = [member for member in members if not _stands(_kept(store, member), member)]

    def make(name: str, report: Report) -> None:
        member = wanted[name]
        with writing(_kept(store, member)) as folder:
            folder.mkdir(parents=True)
            work(member, folder, report)
            _vouch(folder, member)

    in_processes(
        [member.name for member in missing],
        make,
        processes=processes,
        on_report=lambda name, kind, value: on_report(wanted[name], kind, value),
        fork=fork,
    )
    copy_members(members, store, out)
    for member in members:
        _prune(store, member)


def make_once(member: Member, work: Callable[[Path], None], *, store: Path) -> Path:
    """The folder of one finished member, made now, in this process, unless it stands there.

    Args:
        member: what is made; its `place` counts for nothing.
        work: writes its files into the given folder.
        store: folder of the finished members, one for each stage.
    """
    if not _stands(_kept(store, member), member):
        with writing(_kept(store, member)) as folder:
            folder.mkdir(parents=True)
            work(folder)
            _vouch(folder, member)
    _prune(store, member)
    return _kept(store, member)


def copy_members(members: Sequence[Member], store: Path, out: Path) -> None:
    """Put the folder `out` together from finished members; it appears only when it is complete."""
    with writing(out) as folder:
        folder.mkdir(parents=True)
        for member in members:
            shutil.copytree(
                _kept(store, member),
                folder / member.place,
                ignore=shutil.ignore_patterns(_MANIFEST),
                dirs_exist_ok=True,
            )


def _kept(store: Path, member: Member) -> Path:
    return store / f"{member.name}-{member.key}"


def _stands(folder: Path, member: Member) -> bool:
    """Whether a finished member is there, every byte as it was written; a damaged one is removed, and said."""
    if not folder.is_dir():
        return False
    try:
        about = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        if about == {"key": member.key, "files": _checksums(folder)}:
            return True
    except (OSError, ValueError):
        pass
    print(f"warning: {folder} is damaged: it is removed, and made again", file=sys.stderr)
    shutil.rmtree(folder)
    return False


def _vouch(folder: Path, member: Member) -> None:
    about = {"key": member.key, "files": _checksums(folder)}
    (folder / _MANIFEST).write_text(json.dumps(about, indent=1), encoding="utf-8")


def _checksums(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _MANIFEST:
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _prune(store: Path, member: Member) -> None:
    """Remove all but the newest versions of a member, the present one being the newest."""
    os.utime(_kept(store, member))
    length = len(member.key)
    versions = [path for path in store.glob(f"{member.name}-*") if len(path.name) == len(member.name) + 1 + length]
    for path in sorted(versions, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        shutil.rmtree(path)
    for path in store.glob(f".{member.name}-*.part"):  # of a process that was killed
        shutil.rmtree(path, ignore_errors=True)
