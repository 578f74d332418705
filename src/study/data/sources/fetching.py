"""`fetch` a dataset by name from the first source that answers."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from study.data.sources import standard
from study.data.sources.dataset import (
    ARRAYS,
    MANIFEST,
    NAMES_FILE,
    DataError,
    Dataset,
    cannot_write,
    publish,
    scratch_beside,
    verify,
    write,
)

log = logging.getLogger(__name__)

NAMES: tuple[str, ...] = ("fashion-mnist", *standard.TORCHVISION, "digits")
OWN = ("folder", "table", "table-outside", "features")


def fetch(name: str, folder: Path, *, local: Path | None = None) -> Path:
    """Puts the dataset `name` into `folder`, the same bytes whichever source answered, and returns `folder`.

    `name` is one of `NAMES`, or the user's own `folder:PATH`, `table:PATH`, `table-outside:PATH` or `features:PATH`.
    `local` is a folder that may already hold the files; it is tried first. A bar shows the progress, on a terminal
    only. A verified dataset that is already there is left alone; a corrupt one is fetched again. One's own images
    may have changed since, so they are always read again. Nothing half-written ever stands in `folder`.
    Raises `DataError` for an unknown name, a `folder` that holds anything else, a disk that is full or
    forbidden, images that cannot be used, and when every source failed: then it lists them all.
    """
    mine = name.partition(":")[0] in OWN and ":" in name
    if name not in NAMES and not mine:
        raise DataError(
            f"unknown dataset {name!r}; allowed are {', '.join(NAMES)}, folder:PATH, table:PATH, table-outside:PATH, "
            "features:PATH"
        )
    if _stands(name, folder) and not mine:
        return folder
    target = folder.resolve()  # a link is followed, not replaced
    with scratch_beside(target) as scratch:  # before the download: a forbidden place should not cost one
        try:
            dataset = _build(name, scratch, local)
            publish(write(dataset, scratch / "dataset"), target, attic=scratch / "attic")
        except OSError as error:
            raise cannot_write(folder, error) from error
    return folder


def local_files() -> Path | None:
    """`local` of `fetch` as the environment variable TURNOVER_DATA has it; None where it is empty or not set."""
    place = os.environ.get("TURNOVER_DATA")
    return Path(place) if place else None


def _stands(name: str, folder: Path) -> bool:
    """Whether `folder` holds the verified dataset `name`; `DataError` where it holds something else."""
    try:
        if not folder.exists():
            return False
        inside = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise cannot_write(folder, error) from error
    if strangers := sorted(inside - {MANIFEST, NAMES_FILE, *ARRAYS}):
        raise DataError(f"{folder} holds other files, such as {strangers[0]}; choose another folder")
    if not inside:
        return False
    try:
        there = str(verify(folder)["name"])
    except DataError as error:
        log.warning("refused: %s", error)
        return False
    if there != name:
        raise DataError(f"{folder} holds the dataset {there}, not {name}; choose another folder or remove it")
    return True


def _build(name: str, scratch: Path, local: Path | None) -> Dataset:
    # Each with imports of its own, which no other stage need wait for: the settings are checked against NAMES above.
    if name == "fashion-mnist":
        from study.data.sources import fashion

        return fashion.fashion_mnist(local)
    if name == "digits":
        return standard.digits()
    if name in standard.TORCHVISION:
        return standard.torchvision_dataset(name, scratch, local)
    from study.data.sources import own

    return own.own_dataset(name)
