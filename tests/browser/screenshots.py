"""The pictures of README: `python -m tests.browser.screenshots`, or `make screenshots`, after `make repro`.

Report and explorer as they open, and MLflow's comparison of the seeds of one item, in a real browser: docs/pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from study.artefacts.files import writing
from study.commands.running import status_of
from study.commands.ui import HOST, free_port, start, wait_for
from study.tracking.place import place_of
from tests.browser.conftest import FLAGS, NAMES
from turnover.errors import UserError

FOLDER = Path("docs/pictures")
SIZE = {"width": 1280, "height": 800}
ITEM = {"scenario": "mixed", "placement": "head"}
METRICS = ("heldout_accuracy", "memorization_random", "wrong_label_auroc_support")
PATIENCE = 300_000  # milliseconds, on a machine with other work to do
QUALITY = 82  # of WebP: small text stays sharp, and a picture has less than 300 kB


def take(root: Path, folder: Path) -> None:
    """Write the pictures of the results at `root` into `folder`.

    Raises:
        UserError: there is no browser, or there are no results.
    """
    for name in ("reports/index.html", "reports/explorer.html", "mlflow.db"):
        if not (root / name).exists():
            raise UserError(f"{root / name} is missing: run `make repro`")
    folder.mkdir(parents=True, exist_ok=True)
    with browsing() as browser:
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.set_default_timeout(PATIENCE)
        page.goto((root / "reports/index.html").resolve().as_uri())
        keep(page, folder / "report.webp")
        page.goto((root / "reports/explorer.html").resolve().as_uri())
        page.locator("#detail canvas").first.wait_for()
        page.locator("#cards a").first.click()
        keep(page, folder / "explorer.webp")
        with _mlflow(root) as (server, experiment, runs):
            query = f"runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([experiment]))}"
            page.goto(f"{server}/#/compare-runs?{query}")
            page.locator(".js-plotly-plot").first.wait_for()
            _choose(page, METRICS)
            keep(page, folder / "mlflow.webp")


@contextmanager
def browsing() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        raise UserError(f"no Chromium on this machine: none of {', '.join(NAMES)} is in PATH")
    with sync_playwright() as running:
        launched = running.chromium.launch(executable_path=program, args=FLAGS)
        yield launched
        launched.close()


@contextmanager
def _mlflow(root: Path) -> Iterator[tuple[str, str, list[str]]]:
    """A server on the store at `root`, the experiment in it, and the runs of the item's seeds."""
    from mlflow import MlflowClient

    place = place_of(root)
    client = MlflowClient(tracking_uri=place.uri)
    experiment = client.get_experiment_by_name(place.experiment)
    wanted = " and ".join(f"params.{key} = '{value}'" for key, value in ITEM.items())
    found = client.search_runs([experiment.experiment_id], wanted) if experiment else []
    seeds = sorted(run.info.run_id for run in found if "mlflow.parentRunId" in run.data.tags)
    if not seeds:
        raise UserError(f"MLflow has no runs of {ITEM}: run `make repro`")
    server = f"http://{HOST}:{free_port(None)}"
    with start(place, server) as process:
        try:
            wait_for(process, server)
            yield server, experiment.experiment_id, seeds
        finally:
            process.terminate()


def _choose(page: Any, metrics: Sequence[str]) -> None:
    """Show these metrics in MLflow's parallel coordinates, not the one that it begins with, and close the chat."""
    page.get_by_text("Model training", exact=True).first.click()
    page.get_by_role("button", name="Close", exact=True).click()
    metric = page.get_by_role("combobox").nth(1)
    first = metric.get_attribute("aria-description")
    metric.click()
    for name in (*metrics, first):
        page.get_by_role("listbox").locator("..").get_by_title(name, exact=True).click()
    page.keyboard.press("Escape")
    page.mouse.move(0, 0)


def keep(page: Any, path: Path) -> None:
    image = Image.open(io.BytesIO(_at_rest(page)))
    with writing(path) as beside:
        image.convert("RGB").save(beside, "WEBP", quality=QUALITY, method=6)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def _at_rest(page: Any) -> bytes:
    """What the page shows once it has looked the same for three seconds.

    The network tells nothing: MLflow's page asks its server again and again.
    """
    end, since, last = time.monotonic() + PATIENCE / 1000, time.monotonic(), b""
    while time.monotonic() < end:
        page.wait_for_timeout(500)
        if (shown := page.screenshot(animations="disabled", caret="hide")) != last:
            since, last = time.monotonic(), shown
        elif time.monotonic() - since >= 3:
            return last
    raise UserError(f"{page.url} still changes after {PATIENCE // 1000} s")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.screenshots", description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="where the results are (default: here)")
    arguments = parser.parse_args()
    return status_of(lambda here: take(arguments.root.absolute(), here / FOLDER))


if __name__ == "__main__":
    sys.exit(main())
