"""The same pipeline at another size, beside the default results: `python -m study.commands.full`, or `make full`.

The committed code is cloned into a folder that git ignores, the settings of a file are put over its params.yaml, the
pipeline runs there, and its small results are copied to `reports/<name of the file>/`, with its `dvc.lock` and
`made-by.json`, which says what made them. Whoever interrupts it goes on with the same command: the clone keeps its DVC
state and checkpoints.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from study.artefacts.files import write_json, writing
from study.commands.running import run_in, status_of
from study.context.declaration import read_yaml
from study.context.lifetime import end_with_make
from study.context.params import ParamsError, check_params
from turnover.errors import UserError

LARGEST = 3_000_000  # bytes: results stand in git, so larger files are left where they are
VARIANTS = Path("reports/variants")
_RESULTS = ("index.html", "report.md", "explorer.html", "headline.json", "curves", "figures", "metrics", "validation")


def overlay(params: MutableMapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Put `changes` over `params` in place, namespace by namespace; lists and values are replaced."""
    for key, value in changes.items():
        # A network's options belong together: those of another kind of network would not go with the new ones.
        if isinstance(value, Mapping) and isinstance(params.get(key), MutableMapping) and key != "options":
            overlay(params[key], value)
        else:
            params[key] = value


def read_config(config: Path) -> dict[str, Any]:
    """The settings of a file.

    Raises:
        ParamsError: it holds no settings.
    """
    changes = read_yaml(config)
    if not isinstance(changes, dict):
        raise ParamsError(f"{config.name}: it should hold settings as params.yaml does")
    return changes


def make_copy(root: Path, folder: Path, changes: Mapping[str, Any], source: str) -> None:
    """A clone of the committed code of `root` in `folder`, with `changes` of its settings; an earlier one is updated.

    Args:
        root: the repository.
        folder: of the clone.
        changes: put over its params.yaml.
        source: where they come from, for errors.

    Raises:
        UserError: the changes name a setting or value that there is not, or `folder` holds another repository.
    """
    commit = run_in(root, "git", "rev-parse", "HEAD", capture=True).strip()
    lock = folder / "dvc.lock"
    state = lock.read_bytes() if lock.exists() else None
    if (folder / ".git").exists():
        origin = run_in(folder, "git", "config", "--default", "", "remote.origin.url", capture=True).strip()
        if folder == root or Path(origin) != root:
            raise UserError(f"{folder} is another repository, not a copy of {root}: name another --folder")
    else:
        run_in(root, "git", "clone", "--quiet", "--no-checkout", str(root), str(folder))
    run_in(folder, "git", "fetch", "--quiet", "origin")
    run_in(folder, "git", "checkout", "--quiet", "--force", "--detach", commit)
    if state is not None:
        lock.write_bytes(state)  # what this copy has done already, not what the default settings did
    for variant in (folder / VARIANTS).glob("*/"):  # of the default settings: nothing to compare this copy with
        shutil.rmtree(variant)
    from ruamel.yaml import YAML

    yaml = YAML()
    params = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
    overlay(params, changes)
    with writing(folder / "params.yaml") as beside, beside.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    check_params(read_yaml(folder / "params.yaml"), source)


def collect(folder: Path, target: Path, settings: str) -> list[str]:
    """Copy the report, its figures and metrics from a copy to `target`, and what made them.

    Args:
        folder: the copy, in which the pipeline has run.
        target: takes the place of what is there.
        settings: the file that was put over params.yaml.

    Returns:
        The files too large for git, which stay where they are.
    """
    reports = folder / "reports"
    large = [path for path in sorted(reports.rglob("*")) if path.is_file() and path.stat().st_size > LARGEST]

    def left_out(where: str, names: list[str]) -> set[str]:
        others = {".gitignore"} if Path(where) != reports else set(names) - set(_RESULTS)
        return others | {path.name for path in large if path.parent == Path(where)}

    with writing(target) as beside:
        shutil.copytree(reports, beside, ignore=left_out)
        shutil.copyfile(folder / "dvc.lock", beside / "dvc.lock")
        write_json(beside / "made-by.json", made_by(folder, settings))
    return [path.relative_to(folder).as_posix() for path in large]


def made_by(folder: Path, settings: str) -> dict[str, Any]:
    """What made the results of a copy: its commit, its lock, the settings, and the kind of machine and the day."""
    import torch

    # With the instruction set that torch computes with: it decides the bits of results on a CPU.
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "commit": run_in(folder, "git", "rev-parse", "HEAD", capture=True).strip(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "dvc_lock_sha256": hashlib.sha256((folder / "dvc.lock").read_bytes()).hexdigest(),
        "settings": settings,
        "machine": {"processor": processor, "cores": os.cpu_count(), "system": platform.system()},
    }


def run_copy(root: Path, folder: Path, changes: Mapping[str, Any], source: str, *targets: str) -> None:
    """Make the copy, and run its pipeline up to `targets`; none: all of it."""
    if run_in(root, "git", "status", "--porcelain", "--", "src", "stages", "dvc.yaml", "params.yaml", capture=True):
        print("warning: uncommitted changes are not part of this run", file=sys.stderr)
    make_copy(root, folder, changes, source)
    # Data that are here already need not be fetched again.
    run_in(folder, "dvc", "config", "--local", "cache.dir", str(root / ".dvc" / "cache"))
    run_in(folder, sys.executable, "-m", "study.commands.repro", *targets)


def run(root: Path, folder: Path, config: Path) -> None:
    """Copy, run, collect; the results are then in `reports/`, in a folder with the name of the config."""
    run_copy(root, folder, read_config(config), config.name)
    target = root / "reports" / config.stem
    for path in collect(folder, target, config.name):
        print(f"{path} is larger than {LARGEST / 1e6:.0f} MB and stays in {folder}")
    print(f"The report: {target / 'index.html'}")


def main() -> int:
    end_with_make()
    parser = argparse.ArgumentParser(prog="python -m study.commands.full", description=__doc__)
    parser.add_argument("config", nargs="?", type=Path, default=Path("configs/full.yaml"), help="settings to change")
    parser.add_argument("--folder", type=Path, help="where the copy stands (default: build/<name of the config>)")
    arguments = parser.parse_args()
    config = arguments.config.absolute()
    folder = (arguments.folder or Path("build") / config.stem).absolute()
    return status_of(lambda root: run(root, folder, config))


if __name__ == "__main__":
    sys.exit(main())
