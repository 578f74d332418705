"""Before the pipeline runs: check every setting, and clear away what belongs to runs that are no longer asked for.

The stages that aggregate over runs depend on whole folders. A run left over from other settings would change
those folders, and with them `dvc.lock`, on this machine alone.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from study.context.params import Params
from study.context.runs import control_runs, load_params, masked_runs
from turnover.errors import UserError

# Folder of the runs' outs, and whether each control run has one there too.
_RUN_FOLDERS = (
    ("models", True),
    ("dynamics", False),
    ("gradients", False),
    ("scores", False),
    ("reports/metrics/train", True),
    ("reports/metrics/estimate", False),
)


def leftovers(root: Path, params: Params) -> list[Path]:
    """Outs of runs and scenarios that `params` does not ask for."""
    masked = {run.name for run in masked_runs(params)}
    every = masked | {run.name for run in control_runs(params)}
    data = {"raw", *params.scenarios, *params.validation_sets}
    found = [path for path in _children(root / "data") if path.name not in data]
    for folder, controls in _RUN_FOLDERS:
        wanted = every if controls else masked
        found += [path for path in _children(root / folder) if _run_name(path) not in wanted]
    return found


def prepare(root: Path) -> None:
    """Check params.yaml and remove leftovers (DVC's cache keeps them).

    Raises:
        UserError: a setting is wrong.
    """
    params = load_params(root)
    found = leftovers(root, params)
    if found:  # a misspelt placement would make leftovers of everything; importing torch for nothing takes seconds
        from study.networks.masked import check_networks

        check_networks(params)
    for path in found:
        print(f"removing {path.relative_to(root)}: params.yaml no longer asks for it")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _children(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name != ".gitignore") if folder.is_dir() else []


def _run_name(path: Path) -> str:
    return (
        path.name.removesuffix(path.suffix)
        if path.suffix in {".parquet", ".safetensors", ".json", ".csv"}
        else path.name
    )


def main() -> int:
    argparse.ArgumentParser(prog="python -m study.commands.prepare", description=__doc__).parse_args()
    try:
        prepare(Path.cwd())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
