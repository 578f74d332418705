"""Images in class folders, and what else lies there: leavings of tools, links to nothing, files of other kinds."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from turnover.collecting.rows import LAYOUT, SPLITS, Row, plain
from turnover.errors import DataError

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Folders in which systems and tools keep copies and thumbnails, in lower case, beside those whose names begin
# with a dot, or with an @ as on network storage.
LEAVINGS = frozenset({
    "__macosx", "__pycache__", "lost+found", "$recycle.bin", "recycler", "system volume information",
    "#recycle", "#snapshot", "network trash folder", "temporary items",
})  # fmt: skip


@dataclass
class _Found:
    """What lies in the class folders."""

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    gone: list[Path] = field(default_factory=list)  # links to nothing
    leavings: list[Path] = field(default_factory=list)

    def walk(self, folder: Path, above: frozenset[str] = frozenset()) -> None:
        """Add all that lies below `folder`. Links to folders are followed, but not in circles."""
        above |= {os.path.realpath(folder)}
        for path in folder.iterdir():
            if path.is_dir():
                if _is_leaving(path):
                    self.leavings += [] if path.name.startswith(".") else [path]
                elif os.path.realpath(path) not in above:
                    self.walk(path, above)
            elif not path.name.startswith("."):
                self.add(path)

    def add(self, path: Path) -> None:
        if not path.exists():
            self.gone.append(path)
        elif path.suffix.lower() in SUFFIXES and path.is_file():  # a pipe called .png would be waited for, for ever
            self.images.append(path)
        else:
            self.others.append(path)


def folder_rows(root: Path) -> list[Row]:
    """The images in the class folders of `root`, at any depth, in no order.

    What lies in hidden folders is left out. A log warning says what else was.

    Raises:
        DataError: the folder is not laid out as `LAYOUT` says, or a class has no image.
        OSError: a folder cannot be read.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {root}; {LAYOUT['folder']}")
    rows: list[Row] = []
    all_found, loose = _Found(), _Found()
    for top, split in _tops(root):
        for path in top.iterdir():
            if path.is_dir():
                all_found.leavings += [path] if _is_leaving(path) and not path.name.startswith(".") else []
            elif path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                loose.add(path)
        for folder in _folders(top):
            found = _Found()
            found.walk(folder)
            if not found.images:
                why = f", only {len(found.gone)} links to nothing, such as {min(found.gone)}" if found.gone else ""
                raise DataError(f"the class folder {folder} holds no image{why}; add some or remove it")
            rows += [Row(path, path.relative_to(root).as_posix(), plain(folder.name), split) for path in found.images]
            for kind in ("others", "gone", "leavings"):
                getattr(all_found, kind).extend(getattr(found, kind))
    for paths, what in (
        (all_found.gone + loose.gone, "links to files that are not there (was everything checked out, or downloaded?)"),
        (loose.images, "images that lie in no class folder"),
        (all_found.others, "files whose names do not end as those of images do"),
        (all_found.leavings, "folders that systems and tools leave behind"),
    ):
        if paths:
            log.warning("%s: passed over %d %s, such as %s", root, len(paths), what, min(paths))
    return rows


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of splits in `root`: "train", "test" or "validation" -> where it lies; empty where there is none.

    Raises:
        DataError: two folders are the same part, or one is a link to nothing.
        OSError: a folder cannot be read.
    """
    folders = _folders(root)
    named = [(folder, SPLITS[key]) for folder in folders if (key := folder.name.strip().lower()) in SPLITS]
    if len(named) == 1 < len(folders):
        inside = [path for path in named[0][0].iterdir() if not path.name.startswith(".")]
        if any(path.is_file() and path.suffix.lower() in SUFFIXES for path in inside):
            return {}  # a class among others: CIFAR-100 has trains
    parts: dict[str, Path] = {}
    for folder, part in named:
        if part in parts:
            raise DataError(f"{parts[part]} and {folder} are both the {part} part; merge them")
        parts[part] = folder
    return parts


def _tops(root: Path) -> list[tuple[Path, str | None]]:
    """The folders that hold class folders, each with its split: `root` alone, unless it holds folders of splits."""
    parts = split_folders(root)
    if not parts:
        return [(root, None)]
    passed = [folder for folder in _folders(root) if folder not in parts.values()]
    if passed:
        log.warning("%s: passed over %s, which is neither train nor test", root, ", ".join(map(str, passed)))
    return [(folder, part) for part, folder in parts.items()]


def _folders(top: Path) -> list[Path]:
    """The folders in `top` but for what tools leave behind; `DataError` for a link that may have been one."""
    folders: list[Path] = []
    for path in sorted(top.iterdir()):
        if path.is_dir():
            folders += [] if _is_leaving(path) else [path]
        elif not path.exists() and path.suffix.lower() not in SUFFIXES and not path.name.startswith("."):
            raise DataError(f"{path} is a link to nothing, perhaps once to a folder of images; mend it or remove it")
    return folders


def _is_leaving(folder: Path) -> bool:
    return folder.name.startswith((".", "@")) or folder.name.lower() in LEAVINGS
