"""How many examples ``all`` and ``auto`` are, once the data set is known."""

from __future__ import annotations

from study.context.params import DataParams, WantedDataParams
from study.data.sources.dataset import Dataset
from turnover.errors import UserError

MOST = {"train": 3000, "placebo": 300, "heldout": 2000}  # that `auto` asks for: the sizes of the study
_PLACEBOS = 0.1  # of the training part, at most


def sized(data: WantedDataParams, dataset: Dataset) -> DataParams:
    """`data` with numbers in the place of words.

    ``all`` are all examples that there are, ``auto`` those too, but at most `MOST`; placebos are at most a tenth.

    Raises:
        UserError: the data set is too small for the numbers asked for; the message names all of them.
    """
    part, heldout = len(dataset.train), len(dataset.test)
    placebo = min(MOST["placebo"], int(_PLACEBOS * part)) if data.placebo == "auto" else int(data.placebo)
    left = max(part - placebo, 0)
    found = {
        "train": _number(data.train, left, MOST["train"]),
        "placebo": placebo,
        "heldout": _number(data.heldout, heldout, MOST["heldout"]),
    }
    wrong = []
    if found["train"] > left:
        asked = f"data.train + data.placebo = {found['train'] + placebo}"
        wrong.append(f"{asked}, but the train part of {dataset.name} has {part} examples")
    if found["heldout"] > heldout:
        wrong.append(f"data.heldout = {found['heldout']}, but the test part of {dataset.name} has {heldout} examples")
    if wrong:
        raise UserError(f"{'; '.join(wrong)}: ask for fewer, or write all or auto")
    return DataParams(dataset=data.dataset, seed=data.seed, **found)


def _number(asked: int | str, there: int, most: int) -> int:
    if isinstance(asked, int):
        return asked
    return there if asked == "all" else min(there, most)
