"""Public datasets that need no code of ours to be verified: torchvision's, and scikit-learn's digits."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from study.data.sources.dataset import DataError, Dataset, LabelledImages, is_storage, reason

TORCHVISION = {name.lower(): name for name in ("MNIST", "KMNIST", "CIFAR10", "CIFAR100", "SVHN")}
SECONDS = 10  # how long a silent server may keep us waiting


def torchvision_dataset(name: str, scratch: Path, local: Path | None) -> Dataset:
    """One of `TORCHVISION`, downloaded into `scratch` and checked by torchvision.

    Archives in `local` (the files that torchvision downloads, at any depth) are taken if its checksums agree.
    Raises `DataError` where torchvision cannot be imported or no server answers, `OSError` on a full disk.
    """
    try:
        from torchvision import datasets  # late: the import takes seconds
    except (ImportError, RuntimeError) as error:
        raise DataError(f"dataset {name} needs torchvision, which does not import: {reason(error)}") from error
    kind = getattr(datasets, TORCHVISION[name])
    try:
        if local is not None:
            _copy_archives(kind, local, scratch)
        with _impatient(), _quiet():
            if name == "svhn":
                train, test = (kind(scratch, split=part, download=True) for part in ("train", "test"))
            else:
                train, test = (kind(scratch, train=part, download=True) for part in (True, False))
    except (OSError, RuntimeError, EOFError) as error:
        if isinstance(error, OSError) and is_storage(error):
            raise  # our disk and not their server: `fetch` names the folder
        where = f" and the archives in {local}" if local is not None else ""
        raise DataError(
            f"dataset {name} could not be fetched: torchvision's servers{where} failed ({reason(error)}); "
            "put the archives that torchvision downloads into a folder and name it in the environment variable "
            "TURNOVER_DATA (in Python: fetch(..., local=FOLDER)), "
            "or use the dataset `digits`, which needs no network"
        ) from error
    classes = getattr(train, "classes", None) or range(10)  # SVHN does not name its ten
    return Dataset(name, _normalised(train), _normalised(test), tuple(map(str, classes)))


def digits() -> Dataset:
    """scikit-learn's 1,797 digits, `[n, 1, 8, 8]`, 0..16 scaled to 0..255; every 6th is a test example."""
    from sklearn.datasets import load_digits  # late: the import takes seconds

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    test = np.arange(len(labels)) % 6 == 5
    return Dataset(
        "digits",
        LabelledImages(images[~test], labels[~test]),
        LabelledImages(images[test], labels[test]),
        tuple(map(str, bunch.target_names)),
    )


def _normalised(split: Any) -> LabelledImages:
    """torchvision keeps `[n, h, w]` tensors (MNIST), `[n, h, w, c]` (CIFAR) or `[n, c, h, w]` (SVHN)."""
    images = np.asarray(split.data)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)
    labels = split.targets if hasattr(split, "targets") else split.labels
    return LabelledImages(np.ascontiguousarray(images), np.asarray(labels, dtype=np.int64))


def _copy_archives(kind: Any, local: Path, scratch: Path) -> None:
    """Copies, since torchvision writes beside its archives and over those whose checksum is wrong."""
    from torchvision.datasets.utils import check_integrity

    if hasattr(kind, "resources"):
        archives, target = kind.resources, scratch / kind.__name__ / "raw"
    elif hasattr(kind, "split_list"):
        archives, target = [kind.split_list[part][1:] for part in ("train", "test")], scratch
    else:
        archives, target = [(kind.filename, kind.tgz_md5)], scratch
    target.mkdir(parents=True, exist_ok=True)
    for name, md5 in archives:
        # Not the first of that name: MNIST, KMNIST and Fashion-MNIST call their files the same.
        right = next((path for path in sorted(local.rglob(name)) if check_integrity(path, md5)), None)
        if right is not None:
            shutil.copyfile(right, target / name)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """A short time limit on torchvision's downloads, which have none and take no argument for it."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torchvision always draws progress bars; off a terminal they are noise."""
    with contextlib.ExitStack() as stack:
        if not sys.stderr.isatty():
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        yield
