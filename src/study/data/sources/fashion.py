"""Fashion-MNIST from the first of several sources that answers with the right bytes.

The sources compress the files in ways of their own, so the checksums are of the uncompressed content.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import http.client
import importlib.util
import io
import logging
import struct
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from study.data.sources import debian
from study.data.sources.dataset import DataError, Dataset, LabelledImages, UnavailableError, reason

log = logging.getLogger(__name__)

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
PACKAGE = "dataset-fashion-mnist"
SECONDS = 10  # how long a silent mirror may keep us waiting


# The uncompressed IDX files: bytes, sha256.
FILES = {
    "train-images-idx3-ubyte": (47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}

Read = Callable[[str], bytes]  # the name of an IDX file -> its uncompressed, verified content, or UnavailableError


def fashion_mnist(local: Path | None) -> Dataset:
    """The 60,000 + 10,000 images `[n, 1, 28, 28]`. When every source fails, a `DataError` lists them all."""
    failures: list[str] = []
    for source, read in _sources(local):
        try:
            train_images, train_labels, test_images, test_labels = (parse_idx(read(name)) for name in FILES)
        except UnavailableError as error:
            log.warning("Fashion-MNIST from %s: %s", source, error)
            failures.append(f"  - {source}: {error}")
            continue
        return Dataset(
            "fashion-mnist",
            LabelledImages(train_images[:, None], train_labels.astype(np.int64)),
            LabelledImages(test_images[:, None], test_labels.astype(np.int64)),
            CLASSES,
        )
    raise DataError(
        "Fashion-MNIST could not be fetched; every source failed:\n"
        + "\n".join(failures)
        + f"\nPut the four files {', '.join(FILES)} (as they are or .gz) into a folder "
        "and name it in the environment variable TURNOVER_DATA "
        "(in Python: fetch(..., local=FOLDER)), or use the dataset `digits`, which needs no network."
    )


def _sources(local: Path | None) -> Iterator[tuple[str, Read]]:
    """Every source by name, in the order in which they are tried."""
    if local is not None:
        yield f"the local folder {local}", partial(_in_folder, local)
    known = mirrors()
    for mirror in known:
        yield f"the mirror {mirror}", partial(_at_mirror, mirror)
    if not known:
        yield "torchvision's mirrors", _no_mirrors
    # Asked for once, when its turn comes: that costs seconds.
    yield f"Debian's package {PACKAGE}", partial(_in_package, cache(partial(debian.package_files, PACKAGE)))


def mirrors() -> list[str]:
    """The addresses in torchvision's class FashionMNIST, read from its source: importing it takes torch, and seconds.

    Empty where torchvision is not installed, or keeps them elsewhere.
    """
    found = importlib.util.find_spec("torchvision")
    try:
        source = (Path(found.origin or "").parent / "datasets/mnist.py").read_text(encoding="utf-8") if found else ""
    except OSError:
        return []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == "FashionMNIST":
            for line in node.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "mirrors":
                    return list(ast.literal_eval(line.value))
    return []


def _no_mirrors(name: str) -> bytes:
    raise UnavailableError("torchvision, which names them, is not installed, or no longer names them where it did")


def _in_folder(folder: Path, name: str) -> bytes:
    if not folder.is_dir():
        raise UnavailableError("there is no such folder")
    # As given; torchvision's layout below it; torchvision's own dataset folder given directly.
    places = [folder, folder / "FashionMNIST" / "raw", folder / "raw"]
    paths = [place / (name + suffix) for place in places for suffix in ("", ".gz")]
    refusals: list[str] = []
    for path in filter(Path.is_file, paths):
        try:
            return unpack(name, path.read_bytes())
        except (OSError, UnavailableError) as error:
            refusals.append(f"{path.relative_to(folder)}: {reason(error)}")
    raise UnavailableError("; ".join(refusals) or f"{name} is not there")


def _at_mirror(mirror: str, name: str) -> bytes:
    url = f"{mirror}{name}.gz"
    try:
        try:
            return unpack(name, download(url))
        except UnavailableError as error:
            log.warning("%s refused (%s); trying once more", url, error)
            return unpack(name, download(url))
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"{name}.gz: {reason(error)}") from error


def _in_package(files: Callable[..., dict[str, bytes]], name: str) -> bytes:
    packed = files(ending="-ubyte.gz")
    if f"{name}.gz" not in packed:
        raise UnavailableError(f"{name}.gz is not in the package")
    return unpack(name, packed[f"{name}.gz"])


def download(url: str) -> bytes:
    """The bytes at `url`. Raises `OSError` or `HTTPException`, soon where nothing answers."""
    chunks: list[bytes] = []
    with urllib.request.urlopen(url, timeout=SECONDS) as response:
        total = int(response.headers.get("Content-Length") or 0) or None
        # None: a bar on a terminal only.
        with tqdm(total=total, unit="B", unit_scale=True, desc=url.rpartition("/")[2], disable=None) as bar:
            while chunk := response.read(1 << 16):
                chunks.append(chunk)
                bar.update(len(chunk))
    return b"".join(chunks)


def unpack(name: str, data: bytes) -> bytes:
    """The verified content of the IDX file `name` from `data`, gzip or not. Raises `UnavailableError`."""
    size, sha256 = FILES[name]
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(size + 1)  # one more than wanted shows that it is too long
        except (OSError, EOFError, zlib.error) as error:
            raise UnavailableError(f"{name} does not unpack ({reason(error)})") from error
    if len(data) != size:
        found = f"{len(data):,}" if len(data) < size else f"more than {size:,}"
        raise UnavailableError(f"{name} has {found} bytes, not {size:,}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise UnavailableError(f"{name} has the wrong checksum: sha256 {digest[:12]}, not {sha256[:12]}")
    return data


def parse_idx(data: bytes) -> npt.NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes: magic `00 00 08 ndim`, big-endian sizes, values."""
    ndim = data[3]
    shape = struct.unpack_from(f">{ndim}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)
