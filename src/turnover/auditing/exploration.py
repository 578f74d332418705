"""The explorer of an audit: suspects, memorized examples, and mistakes with the examples behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from turnover.auditing.suspicion import Suspicion
from turnover.exploring.explorer import Explorer

_SHOWN = 300  # suspects, and memorized examples
_TARGETS = 100  # mistakes


def explorer_of(prepared: Any, result: Any, found: Suspicion, judged: Tensor) -> Explorer:
    """What `turnover.write_explorer` writes.

    Args:
        prepared: `turnover.auditing.audits.Prepared`.
        result: `turnover.auditing.audits.Audit`.
        found: the judgement of the labels.
        judged: the evidence that it rests on, probabilities [n, classes].
    """
    inputs = prepared.inputs
    place = {name: number for number, name in enumerate(inputs.names)}
    mistakes = list(dict.fromkeys(result.influence["name"]))[:_TARGETS]
    pairs = result.influence[result.influence["name"].isin(mistakes)]
    suspects = found.score.argsort(descending=True, stable=True)[:_SHOWN].tolist()
    shown = {*suspects, *(place[name] for name in result.memorized["name"].head(_SHOWN))}
    training = np.array(sorted(shown | {place[name] for name in pairs["example"]}))
    targets = np.array([place[name] for name in mistakes], dtype=np.int64)
    memorization = result.memorized.set_index("name")
    names = [inputs.names[number] for number in training]
    images = prepared.data.numpy() if prepared.data.dim() == 4 else None
    return Explorer(
        f"Audit of {inputs.place}",
        inputs.classes,
        pd.DataFrame(
            {
                "id": training,
                "given": inputs.labels[training],
                "name": names,
                "memorization": memorization.loc[names, "probability"].to_numpy(),
                "memorization_loss": memorization.loc[names, "loss"].to_numpy(),
                "suspicion": found.wrong.double().numpy()[training].round(4),
                "suggested": found.suggested.numpy()[training],
            }
        ),
        pd.DataFrame(
            {
                "id": targets,
                "label": inputs.labels[targets],
                "name": mistakes,
                "predicted": judged.argmax(1).numpy()[targets],
                "probability": judged[torch.from_numpy(targets), torch.from_numpy(inputs.labels[targets])].numpy(),
            }
        ),
        pd.DataFrame(
            {
                "target": [place[name] for name in pairs["name"]],
                "example": [place[name] for name in pairs["example"]],
                "influence": pairs["influence"].to_numpy(),
            }
        ),
        training_images=None if images is None else images[training],
        target_images=None if images is None else images[targets],
        target="mistake",
        suspicion="probability that the label is wrong",
        about=[f"{result!r}."],
        links={"Suspects, with buttons to keep, relabel or remove": "report.html"},
    )
