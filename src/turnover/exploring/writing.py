"""The page itself: one file that needs nothing else, with data, images, style and script in it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from turnover.errors import UserError
from turnover.exploring.explorer import COLUMNS, NETWORKS, Explorer
from turnover.exploring.sprites import sheets_within

LIMIT = 6_000_000  # bytes
SCRIPTS = ("data.js", "drawing.js", "lists.js", "details.js")  # in this order they are one script
_MISSING = 65535  # of a curve, whose probabilities are kept as ten-thousandths
_DIGITS = 4  # significant ones


def write_explorer(explorer: Explorer, path: Path | str, *, limit: int = LIMIT) -> None:
    """Write the page: one HTML file that opens from the disk, without network, in any current browser.

    >>> training = pd.DataFrame({"id": [7, 8], "given": [0, 1], "memorization": [0.9, 0.1]})
    >>> write_explorer(Explorer("Cats and dogs", ["cat", "dog"], training), "explorer.html")
    >>> "Cats and dogs" in open("explorer.html").read()
    True

    Addresses inside the page: ``#target=20`` and ``#train=7`` show an example, ``#view=memorized`` a gallery.

    Args:
        explorer: what to show.
        path: the file; written beside and renamed.
        limit: bytes. Images are kept exactly, at most 64 pixels a side; where that is too much, less exactly, then
            smaller.

    Raises:
        UserError: the page would be larger, whatever is done to the images; or Pillow is missing and there are images.
    """
    path = Path(path)
    text = page(explorer, limit)
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(text)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def page(explorer: Explorer, limit: int = LIMIT) -> bytes:
    """The page as UTF-8; see `write_explorer`."""
    data = packed(explorer)
    images = {"training": explorer.training_images, "targets": explorer.target_images}
    kept = {name: of for name, of in images.items() if of is not None and len(of)}
    text = _filled(explorer.title, data)
    size = len(text)
    if kept:
        found = sheets_within(kept, limit - size)
        if found is None:
            raise UserError(
                f"the page would be larger than {_megabytes(limit)}: pass fewer training examples, or pairs"
            )
        text = _filled(explorer.title, {**data, "images": found})
        size = len(text)
    if size > limit:
        raise UserError(
            f"the page would have {_megabytes(size)}, more than {_megabytes(limit)}: pass fewer training examples, or "
            "pairs"
        )
    return text


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def packed(explorer: Explorer) -> dict[str, Any]:
    """What the script reads, less the images: columns instead of rows, and rows named by their places."""
    data: dict[str, Any] = {
        "title": explorer.title,
        "about": list(explorer.about),
        "links": [[text, address] for text, address in explorer.links.items()],
        "classes": list(explorer.classes),
        "networks": explorer.networks,
        "target": explorer.target,
        "influence": explorer.influence,
        "suspicion": explorer.suspicion,
        "training": _columns(explorer.training, "training"),
    }
    if explorer.targets is not None:
        data["targets"] = _columns(explorer.targets, "targets")
        if explorer.pairs is not None:
            data["pairs"] = _pairs(explorer.pairs, explorer.targets, explorer.training)
    if explorer.placebos is not None:
        placebos = np.sort(np.asarray(explorer.placebos, np.float64))
        data["placebos"] = [_rounded(value) for value in placebos]
    if explorer.curves:
        data["epochs"] = [int(epoch) for epoch in explorer.epochs]
        data["curves"] = {name: _bytes_of(explorer.curves[name]) for name in NETWORKS if name in explorer.curves}
    return data


def _columns(table: pd.DataFrame, name: str) -> dict[str, list[Any]]:
    """The known columns of a table as lists."""
    needed, optional = COLUMNS[name]
    return {column: _values(table[column]) for column in (*needed, *optional) if column in table}


def _pairs(pairs: pd.DataFrame, targets: pd.DataFrame, training: pd.DataFrame) -> dict[str, list[Any]]:
    """The strongest first; targets and training examples by their places in their tables."""
    order = np.argsort(-np.abs(pairs["influence"].to_numpy(np.float64)), kind="stable")
    pairs = pairs.iloc[order]
    places = {
        "target": pairs["target"].map(pd.Series(range(len(targets)), index=targets["id"].to_numpy())),
        "example": pairs["example"].map(pd.Series(range(len(training)), index=training["id"].to_numpy())),
    }
    return _columns(pairs.assign(**places), "pairs")


def _values(column: pd.Series[Any]) -> list[Any]:
    """Integers and texts as they are, other numbers rounded, None where there is none."""
    if pd.api.types.is_integer_dtype(column.dtype):
        return [int(value) for value in column]
    if pd.api.types.is_float_dtype(column.dtype):
        return [_rounded(value) for value in column]
    return [value if isinstance(value, int) else str(value) for value in column]


def _rounded(value: float) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None


def _bytes_of(curve: npt.NDArray[Any]) -> str:
    """Probabilities [training, epochs] as ten-thousandths in 16 bits, little end first, in base 64."""
    values = np.asarray(curve, np.float64)
    known = np.isfinite(values)
    kept = np.where(known, np.rint(np.clip(np.where(known, values, 0.0), 0.0, 1.0) * 10_000), _MISSING)
    return base64.b64encode(kept.astype("<u2").tobytes()).decode("ascii")


def embedded(data: Any) -> str:
    """JSON that may stand in a script element: ASCII only, and nothing that begins or ends an element or a comment."""
    return json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _filled(title: str, data: Mapping[str, Any]) -> bytes:
    folder = files("turnover.exploring").joinpath("page")
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    script = "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)
    # The only style and the only script that the browser takes, whatever stands in the data; and nothing from outside.
    policy = f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}"
    parts = {
        "TITLE": html.escape(title),
        "POLICY": policy,
        "STYLE": style,
        "SCRIPT": script,
        "DATA": embedded(data),
    }
    template = folder.joinpath("page.html").read_text(encoding="utf-8")
    return re.sub(r"@@([A-Z]+)@@", lambda found: parts[found[1]], template).encode("utf-8", "replace")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
