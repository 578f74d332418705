"""What variants of the study vary, in the words that figure and report share."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

# Setting that is varied -> what it is.
_TITLES = {
    "labels.noise.mixed": "share of random labels",
    "data.train": "training examples",
    "model.options.hidden": "masked units",
    "model.options.channels": "convolutions",
    "training.weight_decay": "weight decay",
    "training.augmentation.translate": "shift of images (pixels)",
}


def title(setting: str) -> str:
    """What a setting is, in words; its own name if there are none."""
    return _TITLES.get(setting, setting)


def level(setting: str, value: float) -> str:
    """A value of it as people write it."""
    return f"{value:.0%}".replace("%", " %") if setting.startswith("labels.noise.") else f"{value:,g}"


def levels(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Of every setting that is varied its name and the effects from the lowest value to the highest, the default among
    the variants.

    Args:
        table: of `study.findings.variants.variants_table`.

    Yields:
        The setting, and its rows with the columns ``at`` (0, 1, ... from the lowest value), ``is_default``, ``about``,
        ``value``, ``effect``, ``mean``, ``low``, ``high`` and ``seeds``. The default has the effects that one of its
        variants has.
    """
    numbers = ["value", "mean", "low", "high", "seeds"]
    for setting, variants in table.groupby("varies", sort=False):
        default = variants.dropna(subset="default_mean").drop_duplicates("effect")
        default = default.drop(columns=numbers).rename(columns={f"default_{of}": of for of in numbers})
        default = default.assign(variant="", about="as in params.yaml")
        found = pd.concat([variants.assign(is_default=False), default.assign(is_default=True)])
        found = found.sort_values("value", kind="stable")
        names = list(dict.fromkeys(found["variant"]))
        found["at"] = found["variant"].map(names.index)
        columns = ["at", "is_default", "about", "value", "effect", "mean", "low", "high", "seeds"]
        yield str(setting), found[columns].reset_index(drop=True)
