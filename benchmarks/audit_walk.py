"""The walk of docs/audit.md: `turnover audit` of Fashion-MNIST's own labels, and pictures of what it shows.

python benchmarks/audit_walk.py            # 10,000 images, a minute; pictures into docs/pictures
python benchmarks/audit_walk.py --examples 2000 --pictures build/pictures
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.audit import write_folders
from study.data.sources.dataset import load
from study.data.sources.fetching import fetch, local_files
from tests.browser.screenshots import FOLDER, SIZE, browsing, keep

SHOWN = 30  # of labels.csv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("build/walk"), help="where images and audit lie")
    parser.add_argument("--pictures", type=Path, default=FOLDER)
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    data = load(fetch("fashion-mnist", options.folder / "raw", local=local_files()))
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.train))[: options.examples])
    names = [data.classes[label].replace("/", " or ") for label in data.train.labels[chosen]]
    write_folders(data.train.images[chosen], names, options.folder / "fashion")
    out = options.folder / "audit"
    command = [sys.executable, "-m", "turnover.auditing.command", "audit", str(options.folder / "fashion")]
    subprocess.run([*command, "--out", str(out)], check=True)
    print("".join((out / "labels.csv").read_text(encoding="utf-8").splitlines(keepends=True)[: SHOWN + 1]))
    print((out / "classes.csv").read_text(encoding="utf-8"))
    options.pictures.mkdir(parents=True, exist_ok=True)
    with browsing() as browser:
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto((out / "report.html").resolve().as_uri())
        page.locator(".card canvas, .card img").first.wait_for()
        keep(page, options.pictures / "audit.webp")
        page.goto((out / "explorer.html").resolve().as_uri())
        page.locator("#cards a").first.click()
        keep(page, options.pictures / "audit-explorer.webp")


if __name__ == "__main__":
    main()
