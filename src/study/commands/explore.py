"""Serve the explorer, which then answers for new images: `python -m study.commands.explore`, or `make explore`.

It asks the networks that the page shows, those of all seeds of one scenario and placement. An image is brought to the
size of the training images; one that differs from them in style, such as a photograph on white where they are drawn on
black, is foreign to the networks.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from study.analysis.inputs import read_study
from study.commands.running import page_arguments, status_of
from study.context.lifetime import end_with_make
from study.context.params import InfluenceParams
from study.context.stage import Stage, cores
from study.data.scenarios.examples import examples_of
from study.networks.masked import load_network
from turnover.attribution.influence import influence
from turnover.attribution.nearness import SHARPNESS, Localized
from turnover.reading.one_pass import read
from turnover.reading.readings import Readings
from turnover.serving.live_page import LivePage
from turnover.serving.server import PORT, serve
from turnover.serving.trained import Trained


def explore(root: Path, port: int | None = None, *, browser: bool = True) -> None:
    """Serve the explorer of the repository at `root` until interrupted.

    Raises:
        UserError: page, networks or data are missing; or the port is taken.
    """
    torch.set_num_threads(cores())
    stage = Stage(root, "explorer", {})
    page = LivePage(root / "reports/explorer.html")
    serve(page, trained_of(stage), port=port, browser=browser, say=partial(print, flush=True))


def trained_of(stage: Stage) -> Trained:
    """The networks and training examples that the explorer shows.

    Args:
        stage: the explorer's, which says what it may read.

    Raises:
        UserError: networks or data are missing or damaged.
    """
    study = read_study(stage)
    scenario = study.scenarios[study.shown.scenario]
    runs = study.runs(study.shown.scenario, study.shown.placement)
    networks = [load_network(stage.dep(of.folder))[0] for of in runs]
    examples = examples_of(scenario, "train")
    readings = [_read(network, examples.images, examples.labels, examples.ids) for network in networks]
    asked = _estimate(stage.param("estimate.influence"), examples.images)

    def scores(x: Tensor, y: Tensor) -> Tensor:
        each = zip(networks, readings, strict=True)
        return torch.stack([influence(network, of, x, y, fused=False, **asked) for network, of in each])

    table = scenario.of("train")[["id", "given", "original"]].reset_index(drop=True)
    return Trained(networks, scenario.classes, table, examples.images.numpy(), scores)


def _read(network: nn.Module, images: Tensor, labels: Tensor, ids: Tensor) -> Readings:
    return read(network, images, labels, ids, masked=False, progress=False)


def _estimate(settings: InfluenceParams, images: Tensor) -> dict[str, Any]:
    """What `influence` is asked for: the scores that the page shows."""
    asked: dict[str, Any] = {"measure": settings.measure}
    if not settings.localized:
        return {**asked, "estimate": "raw"}
    if settings.sharpness == SHARPNESS:
        return {**asked, "estimate": "localized"}  # from the readings, which are there
    return {**asked, "localized": Localized(images, sharpness=settings.sharpness), "estimate": "localized"}


def main() -> int:
    end_with_make()
    arguments = page_arguments("explore", __doc__, PORT)
    return status_of(lambda root: explore(root, arguments.port, browser=not arguments.no_browser))


if __name__ == "__main__":
    sys.exit(main())
