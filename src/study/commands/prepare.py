"""Before the pipeline runs: check every setting, and clear away what belongs to runs that are no longer asked for.

The stages that aggregate over runs depend on whole folders. A run left over from other settings would change
those folders, and with them `dvc.lock`, on this machine alone.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from study.commands.running import status_of
from study.context.fingerprint import hash_of
from study.context.params import Params
from study.context.runs import CONTROL, load_params
from study.context.surroundings import check_code, check_place

# Other programs keep something of theirs in folders of these names too.
_SHARED_NAMES = ("runs", "scores")


def leftovers(root: Path, params: Params) -> list[Path]:
    """Outs of items that `params` does not ask for."""
    masked = [placement for placement in params.placements if placement != CONTROL]
    items = [f"{scenario}-{placement}" for scenario in params.scenarios for placement in params.placements]
    wanted: dict[str, list[str]] = {  # folder: what may be in it
        "data/scenarios": params.scenarios,
        "data/validation": params.validation_sets,
        "runs": params.scenarios,
        **{f"runs/{scenario}": params.placements for scenario in params.scenarios},
        "scores": params.scenarios,
        **{f"scores/{scenario}": masked for scenario in params.scenarios},
        "made-by": [f"{item}.json" for item in items],
        "reports/curves": [f"{item}.csv" for item in items],
        "reports/validation": params.validation_sets,
    }
    return [
        path
        for folder, names in wanted.items()
        for path in sorted((root / folder).glob("*"))
        if path.name not in (*names, ".gitignore") and (folder not in _SHARED_NAMES or _is_ours(path))
    ]


def _is_ours(folder: Path) -> bool:
    """Whether a scenario's folder holds trainings or their scores, below placement and seed."""
    return any(folder.glob("*/*/model.json")) or any(folder.glob("*/*/memorization.parquet"))


def prepare(root: Path) -> None:
    """Check params.yaml and remove leftovers (DVC's cache keeps them).

    Raises:
        UserError: a setting is wrong, or the pipeline cannot work here; nothing was removed.
    """
    check_place(root)
    check_code(root)
    params = load_params(root)
    _check_networks(root, params)
    for path in leftovers(root, params):
        print(f"removing {path.relative_to(root)}: params.yaml no longer asks for it")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _check_networks(root: Path, params: Params) -> None:
    """Build every network once, unless these very settings were found to be right before: torch takes seconds."""
    judges = [params.validation[name].model_dump() for name in params.validation_sets]
    found = hash_of(
        {
            "model": params.model.model_dump(),
            "placements": params.placements,
            "dataset": params.data.dataset,
            "validation": judges,
        }
    )
    stamp = root / ".checkpoints" / "networks-checked"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == found:
        return
    from study.networks.masked import check_networks

    check_networks(params)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(found, encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m study.commands.prepare", description=__doc__).parse_args(arguments)
    return status_of(prepare)


if __name__ == "__main__":
    sys.exit(main())
