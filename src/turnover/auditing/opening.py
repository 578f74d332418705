"""An audit opened again, to ask its network about new images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from turnover.attribution.influence import influence
from turnover.auditing.audits import prepare
from turnover.auditing.folder import MANIFEST
from turnover.auditing.inputs import look
from turnover.auditing.networks import load_network
from turnover.errors import UserError, reason
from turnover.reading.one_pass import read
from turnover.serving.live_page import LivePage
from turnover.serving.trained import Trained


def open_audit(
    folder: Path,
    data: Path | None = None,
    *,
    say: Callable[[str], None] = print,
    progress: bool | None = None,
) -> tuple[LivePage, Trained]:
    """The explorer of an audit, and its network with the images that it learned from, which are read again.

    Args:
        folder: as `turnover.audit` wrote it.
        data: where the images are now; None: where they were.
        say: called with each line that a user should read.
        progress: show bars. None: on a terminal.

    Raises:
        UserError: it is no audit, or one of embeddings; a file is damaged; or the images are gone, or others.
    """
    about = _manifest(folder)
    if len(about["input"]) != 3:
        raise UserError(
            f"{folder} is an audit of embeddings, and a new image has none; open {folder / 'explorer.html'} as it is"
        )
    page = LivePage(folder / "explorer.html")
    network, _ = load_network(folder)
    inputs = look(_place(about["data"], folder, data), **about["reading"])
    prepared = prepare(inputs, about["settings"] | {"device": "cpu"}, say, progress)
    if prepared.fingerprint != about["fingerprint"]:
        raise UserError(
            f"{inputs.place} does not hold the images that were audited, or not all of them: say where these are "
            "(--data), or audit again"
        )
    kept = prepared.inputs
    ids = torch.arange(len(kept))
    readings = read(network, prepared.data, torch.from_numpy(kept.labels), ids, progress=progress)

    def scores(x: Tensor, y: Tensor) -> Tensor:
        return influence(network, readings, x, y)[None]

    examples = pd.DataFrame({"id": np.arange(len(kept)), "name": kept.names, "given": kept.labels})
    return page, Trained([network], kept.classes, examples, prepared.data.numpy(), scores)


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is no folder that `turnover audit` wrote: there is no {MANIFEST} in it")
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = {"data", "reading", "input", "settings", "fingerprint"} - about.keys()
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}; audit again") from error
    if missing:
        raise UserError(f"{path} does not say {min(missing)!r}, as an earlier version wrote it; audit again")
    return about


def _place(written: str, folder: Path, given: Path | None) -> Path:
    """Where the images are. A relative path was written where the audit ran, mostly beside its folder."""
    if given is not None:
        return given
    places = [Path(written), folder.absolute().parent / written]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise UserError(f"the images of the audit are not at {written} any more: say where they are (--data)")
    return found
