"""Estimate memorization and influence of one trained run, and how well its scores find the random labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from study.context import Run, Stage
from study.files import write_json, write_parquet, writing
from study.networks import load_network
from study.params import InfluenceParams
from study.scenario import Scenario, load_scenario
from turnover.devices import resolve_device
from turnover.influence import InfluenceSummary, Localized, influence, neighbourhood, summarize
from turnover.memorization import evaluating, memorization
from turnover.outputs import loss_and_margin
from turnover.trajectories import average_over_training, sharpen

MEASURES = ("loss", "probability", "accuracy")
# Scores that may find wrong labels: their columns, and 1 where the higher is the more suspect, -1 where the lower is.
DETECTORS = {
    "low_support": ("support", -1),
    "cumulative_loss": ("mean_loss_full", 1),
    "loss_flipped": ("loss_flipped", 1),
    "memorization_loss": ("loss", 1),
    "memorization_probability": ("probability", 1),
    "memorization_sharpened": ("sharpened", 1),
    "loss_full": ("loss_full", 1),
}


def estimate_run(stage: Stage, run: Run) -> None:
    """The body of stage `estimate`."""
    torch.set_num_threads(stage.param("training.threads"))
    device = resolve_device(stage.param("training.device"))
    scenario = load_scenario(stage.dep(f"data/{run.scenario}"))
    network, _ = load_network(stage.dep(f"models/{run.name}"))
    network.to(device)
    with writing(stage.out(f"scores/{run.name}")) as folder:
        folder.mkdir(parents=True)
        scores = score_examples(network, scenario, device)
        dynamics = pd.read_parquet(stage.dep(f"dynamics/{run.name}.parquet"))
        scores = over_training(scores, dynamics, network, scenario, device)
        write_parquet(folder / "memorization.parquet", scores)
        influence_on_heldout(network, run, scenario, stage.param("estimate.influence"), device, folder / "influence")
    write_json(stage.out(f"reports/metrics/estimate/{run.name}.json"), metrics_of(scores))


def score_examples(network: nn.Module, scenario: Scenario, device: torch.device) -> pd.DataFrame:
    """Memorization of every training example and placebo, beside what is known about its label."""
    rows = scenario.of("train", "placebo")
    ids = torch.tensor(rows["id"].to_numpy())
    images = torch.from_numpy(scenario.images)[ids]
    given = torch.tensor(rows["given"].to_numpy())
    frame = memorization(network, images.to(device), given.to(device), ids.to(device))
    return rows[["id", "split", "given", "original", "is_random"]].merge(frame, on="id", validate="1:1")


def over_training(
    scores: pd.DataFrame, dynamics: pd.DataFrame, network: nn.Module, scenario: Scenario, device: torch.device
) -> pd.DataFrame:
    """Scores with what the whole training and the neighbourhood say beside them.

    Adds `average_over_training`, in columns ``mean_...`` (``mean_probability`` beside ``probability``), and for
    training examples ``leverage``, ``support`` and ``sharpened`` (see `turnover.sharpen`); placebos, which are
    nobody's neighbours, have none of these three.
    """
    averaged = average_over_training(dynamics)
    rows = scenario.of("train")
    x = torch.from_numpy(scenario.images)[torch.tensor(rows["id"].to_numpy())]
    near = neighbourhood(network, x, torch.tensor(rows["given"].to_numpy()).to(device))
    sharpened = sharpen(rows[["id"]].merge(averaged, on="id", validate="1:1"), near)
    averaged = averaged.rename(columns={column: f"mean_{column}" for column in averaged.columns if column != "id"})
    scores = scores.merge(averaged, on="id", how="left", validate="1:1")
    return scores.merge(sharpened[["id", "leverage", "support", "sharpened"]], on="id", how="left", validate="1:1")


def influence_on_heldout(
    network: nn.Module, run: Run, scenario: Scenario, settings: InfluenceParams, device: torch.device, folder: Path
) -> None:
    """Write `targets.parquet`, `top.parquet` and `totals.parquet`, and `matrix.npy` where it is asked for.

    All are of the localized scores, unless the settings say otherwise; ``total_raw...`` are of the raw ones either way.
    """
    trained = scenario.of("train")
    count = settings.targets if run.placement == "head" else settings.targets_all_layers
    targets = scenario.of("heldout").head(count)
    x = torch.from_numpy(scenario.images)[torch.tensor(targets["id"].to_numpy())].to(device)
    y = torch.tensor(targets["given"].to_numpy()).to(device)
    ids = torch.tensor(trained["id"].to_numpy()).to(device)
    labels = torch.tensor(trained["given"].to_numpy()).to(device)
    near = None
    if settings.localized:
        near = Localized(torch.from_numpy(scenario.images)[ids.cpu()], sharpness=settings.sharpness)
    # Not fused: so few pairs do not pay for a compiler run, and the bits must not depend on there being a compiler.
    top = min(settings.top, len(ids))
    summary = summarize(network, ids, labels, x, y, measure=settings.measure, top=top, fused=False, localized=near)
    folder.mkdir(parents=True)
    write_parquet(folder / "targets.parquet", predictions(network, x, y, targets))
    write_parquet(folder / "top.parquet", top_frame(summary, targets["id"].to_numpy()))
    raw, raw_same_class = summary.total, summary.total_same_class
    if summary.total_raw is not None and summary.total_raw_same_class is not None:
        raw, raw_same_class = summary.total_raw, summary.total_raw_same_class
    totals = {
        "id": trained["id"].to_numpy(),
        "total": summary.total.cpu().numpy(),
        "total_same_class": summary.total_same_class.cpu().numpy(),
        "total_raw": raw.cpu().numpy(),
        "total_raw_same_class": raw_same_class.cpu().numpy(),
    }
    write_parquet(folder / "totals.parquet", pd.DataFrame(totals))
    if settings.matrix:
        matrix = influence(network, ids, x, y, settings.measure, localized=near)
        with writing(folder / "matrix.npy") as beside, beside.open("wb") as file:
            np.save(file, matrix.cpu().numpy().astype(np.float32), allow_pickle=False)


def predictions(network: nn.Module, x: Tensor, y: Tensor, targets: pd.DataFrame) -> pd.DataFrame:
    """What the full network says about the targets."""
    with evaluating(network), torch.no_grad():
        logits = torch.cat([network(x[start : start + 512]) for start in range(0, len(x), 512)])
    loss, _ = loss_and_margin(logits, y)
    return pd.DataFrame(
        {
            "id": targets["id"].to_numpy(),
            "given": targets["given"].to_numpy(),
            "predicted": logits.argmax(1).cpu().numpy(),
            "loss": loss.cpu().numpy(),
        }
    )


def top_frame(summary: InfluenceSummary, target_ids: np.ndarray) -> pd.DataFrame:
    """The most helpful and most harmful training examples of every target, one row each, the strongest first.

    Examples without any influence (localized, many have none) are neither: which of them came last is chance.
    """
    pieces = []
    for kind, ids, values in (
        ("helpful", summary.helpful_ids, summary.helpful),
        ("harmful", summary.harmful_ids, summary.harmful),
    ):
        count, k = ids.shape
        pieces.append(
            pd.DataFrame(
                {
                    "target": np.repeat(target_ids, k),
                    "kind": kind,
                    "rank": np.tile(np.arange(k), count),
                    "example": ids.cpu().numpy().ravel(),
                    "influence": values.cpu().numpy().ravel(),
                }
            )
        )
    found = pd.concat(pieces, ignore_index=True)
    return found[found["influence"] != 0.0].reset_index(drop=True)


def metrics_of(scores: pd.DataFrame) -> dict[str, Any]:
    """Means by group, the placebo's spread, and mislabel detection where there are wrong labels."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    trained, placebo = scores[scores["split"] == "train"], scores[scores["split"] == "placebo"]
    groups = {"real": trained[~trained["is_random"]], "random": trained[trained["is_random"]], "placebo": placebo}
    metrics: dict[str, Any] = {
        "memorization": {
            name: {measure: _round(group[measure].mean()) for measure in MEASURES}
            for name, group in groups.items()
            if len(group)
        },
        "placebo_std": {measure: _round(placebo[measure].std()) for measure in MEASURES if len(placebo) > 1},
    }
    wrong = trained["given"] != trained["original"]
    if wrong.any() and not wrong.all():
        metrics["wrong_labels"] = int(wrong.sum())
        for name, score in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
            metrics[f"mislabel_{name}"] = {
                key: _round(score(wrong, sign * trained[column]))
                for key, (column, sign) in DETECTORS.items()
                if column in trained
            }
    return metrics


def _round(value: float) -> float:
    return round(float(value), 6)
