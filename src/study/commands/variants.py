"""The claims in other settings: `python -m study.commands.variants`, or `make variants`.

Every variant of configs/variants.yaml is run in a working copy of its own, up to the findings, and they are kept with
what made them in `reports/variants/<name>/`, where stage `findings` finds them. Whoever interrupts it goes on with the
same command.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from study.artefacts.files import write_json, writing
from study.commands.full import VARIANTS, made_by, overlay, read_config, run_copy
from study.commands.running import status_of
from study.context.declaration import read_yaml
from study.context.lifetime import end_with_make
from study.context.params import ParamsError, check_params

CONFIG = Path("configs/variants.yaml")
_KEPT = ("findings.json", "findings/effects.csv")  # of reports/metrics


def settings_of(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings of a variant: those common to all of them, and its own over them."""
    changes: dict[str, Any] = copy.deepcopy(config["common"])
    overlay(changes, config["variants"][name]["settings"])
    return changes


def value_of(params: Mapping[str, Any], setting: str) -> float:
    """The number that a setting is, such as ``"data.train"``; of a list, such as the network's channels, its length.

    Args:
        params: as params.yaml holds them; what it leaves out has its usual value.
        setting: its name, with those of its namespaces.

    Raises:
        ParamsError: there is no such setting, or it is no number.
    """
    value: Any = check_params(params).model_dump()
    for part in setting.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, list):
        return len(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParamsError(f"{CONFIG.name}: {setting!r} should be a setting that is a number or a list")
    return value


def collect(folder: Path, target: Path, name: str, about: Mapping[str, Any]) -> None:
    """Keep the findings of a copy, with what made them and what the variant is about."""
    with writing(target) as beside:
        beside.mkdir(parents=True)
        for of in _KEPT:
            shutil.copyfile(folder / "reports/metrics" / of, beside / Path(of).name)
        made = made_by(folder, f"{CONFIG.name}, {name}")
        write_json(beside / "made-by.json", {**about, **made})


def run(root: Path, names: list[str]) -> None:
    """Run the variants with these names; none: all of them.

    Raises:
        UserError: there is no such variant, or its settings are not allowed.
    """
    config = read_config(root / CONFIG)
    variants: dict[str, Any] = config["variants"]
    for name in names:
        if name not in variants:
            raise ParamsError(f"{CONFIG.name}: there is no variant {name!r}; there are {', '.join(variants)}")
    params = read_yaml(root / "params.yaml")
    for place, (name, of) in enumerate(variants.items()):
        if not names or name in names:
            changes, changed = settings_of(config, name), copy.deepcopy(params)
            overlay(changed, changes)
            about = {
                "about": of["about"],
                "place": place,  # among the variants
                "varies": of["varies"],
                "value": value_of(changed, of["varies"]),
                "default": value_of(params, of["varies"]),
            }
            folder = root / "build" / "variants" / name
            print(f"{name}: {of['about']}", flush=True)
            run_copy(root, folder, changes, f"{CONFIG.name}, {name}", "findings")
            collect(folder, root / VARIANTS / name, name, about)


def main() -> int:
    end_with_make()
    parser = argparse.ArgumentParser(prog="python -m study.commands.variants", description=__doc__)
    parser.add_argument("names", nargs="*", help="variants of configs/variants.yaml; none: all of them")
    return status_of(partial(run, names=parser.parse_args().names))


if __name__ == "__main__":
    sys.exit(main())
