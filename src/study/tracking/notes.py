"""What MLflow shows at the head of an experiment, a run or a model: descriptions, in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from study.context.rules import CONTROL
from study.context.runs import Run
from study.context.stage import Stage
from study.tracking import view

NOTE = "mlflow.note.content"
EXPERIMENT = {
    # Opens it at its runs; without a kind MLflow shows its page for traces of language models.
    "mlflow.experimentKind": "custom_model_development",
    view.TAG: view.shared_view(),
    NOTE: """\
Which training examples networks memorize, and which ones shape a prediction: every training of the study, what was
estimated from it, and how well that agrees with retraining.

| run | what it is | tag `turnover.stage` |
|---|---|---|
| `mixed-head` | a scenario of labels and a placement of the masks: means over its seeds | `train@mixed-head` |
| `mixed-head-10` | below it, the training of one seed: curves, estimates, model | `train@mixed-head` |
| `validation ...` | estimates judged by networks that were retrained | `validate@...` |
| `findings` | the claims and their verdicts | `findings` |
| `report` | the headline numbers, the report, all figures | `report` |

Trainings alone: search for `params.placement != ''`. Group by the parameters `scenario` and `placement`.
""",
}
_PLACEMENTS = {
    CONTROL: "ordinary dropout in front of the head and no masks: the control",
    "head": "turn-over dropout in front of the head",
    "all": "turn-over dropout after every hidden activation",
}


def item_note(stage: Stage, seeds: Sequence[int]) -> str:
    """Of the run above those of an item's seeds."""
    listed = ", ".join(map(str, seeds))
    return (
        f"{_setting(stage)}\n\nMetrics are means over the seeds {listed}, each a run below; `seeds.json` has them all."
    )


def training_note(stage: Stage, run: Run) -> str:
    """Of the run of one seed."""
    below = "Curves are live; `metrics.json` has every final number"
    if run.placement == CONTROL:
        return f"{_setting(stage)}\n\nSeed {run.seed}. {below}."
    return (
        f"{_setting(stage)}\n\nSeed {run.seed}. {below}, `estimates.csv` all that was estimated. "
        "*Exposed*: the half of the network that trains on an example. *Flipped*: the half that never does. "
        "`memorization_*`: mean of p(given label) in the first minus that in the second."
    )


def validation_note(settings: Mapping[str, Any]) -> str:
    """Of a validation set."""
    of, retrain = settings["validation"], settings["retrain"]
    return (
        f"Estimates judged by {retrain['networks']} networks, each retrained on a random {retrain['fraction']:.0%} of "
        f"{of['train']} examples of {of['dataset']}, {of['noise']:.0%} of whose labels are random.\n\n"
        "`table.json`: every estimator, ours and others. `memorization_spearman`: rank correlation with memorization "
        "by retraining. `lds`: how well sums of influences foretell the losses of retrained networks. "
        "`wrong_label_auroc`: finding the random labels."
    )


def model_note(stage: Stage) -> str:
    """Of a registered model."""
    address = f"models:/{model_name(stage)}@seed-{stage.runs()[0].seed}"
    return (
        f"{_setting(stage)}\n\nThe full network, a version a training; the alias `seed-N` names the newest one of seed "
        "N. It takes images as stored (uint8, channels first) and returns logits.\n\n"
        f'```python\nmodel = mlflow.pyfunc.load_model("{address}")\nmodel.predict(images)\n```\n\n'
        "Loading a model runs what its file says. From a store that people write to whom you do not trust, take the "
        "folder `network` of the run (weights and JSON, which run nothing): `study.networks.masked.load_network`."
    )


def model_name(stage: Stage) -> str:
    """The registered model of an item of trainings."""
    return f"turnover-{stage.item['scenario']}-{stage.item['placement']}"


def _setting(stage: Stage) -> str:
    raw, scenario, placement = stage.raw_params, stage.item["scenario"], stage.item["placement"]
    data, model, training = raw["data"], raw["model"], raw["training"]
    noise = raw["labels"]["noise"][scenario]
    labels = f"{noise:.0%} of their labels drawn at random" if noise else "labels as they are"
    where = _PLACEMENTS.get(placement, f"turn-over dropout after {placement.replace('+', ', ')}")
    options = json.dumps(model.get("options", {}))
    return (
        f"**{data['train']:,} images of {data['dataset']}**, {labels}; {where}.\n\n"
        f"{model['name']} `{options}`, {training['epochs']} epochs of {training['optimizer']} at "
        f"{training['learning_rate']}, batches of {training['batch_size']}."
    )
