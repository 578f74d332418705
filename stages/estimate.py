"""Estimate memorization, and influence on the held-out examples, from every masked training of a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from study.artefacts.files import write_json, write_parquet
from study.context.fingerprint import member_key
from study.context.members import Member, make_members
from study.context.params import InfluenceParams
from study.context.processes import Report
from study.context.runs import Run
from study.context.stage import Stage, main
from study.data.scenarios.examples import examples_of
from study.data.scenarios.scenario import Scenario, load_scenario
from study.networks.devices import processor, resolve_device
from study.networks.masked import load_network
from turnover.attribution.nearness import Localized
from turnover.attribution.summary import InfluenceSummary, summarize
from turnover.batches.examples import Examples
from turnover.batches.outputs import loss_and_margin
from turnover.batches.passes import evaluating
from turnover.progress import progress_bar
from turnover.scoring.memorization import memorization
from turnover.scoring.neighbourhood import neighbourhood
from turnover.scoring.sharpening import average_over_training, sharpen

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


def estimate_all(stage: Stage) -> None:
    """The body of the stage: the estimates of every training of a scenario with turn-over dropout, side by side."""
    device = resolve_device(stage.param("training.device"))
    threads: int = stage.param("training.threads")
    scenario = stage.item["scenario"]
    runs = {run.name: run for run in stage.runs()}
    resolved = {"device": str(device), "torch": torch.__version__, **processor(device)}

    def member_of(run: Run) -> Member:
        deps, params = [f"data/scenarios/{scenario}", run.folder], ["estimate", "training.threads"]
        key = member_key(stage, deps, params, {"run": run.name, **resolved})
        return Member(run.name, f"{run.placement}/{run.seed}", key)

    members = [member_of(run) for run in runs.values()]
    with progress_bar(total=len(members), unit="network", description=f"estimates of {scenario}") as bar:
        make_members(
            members,
            lambda member, folder, report: estimate_run(stage, runs[member.name], device, folder, report),
            store=stage.root / ".checkpoints" / "estimate",
            out=stage.out(f"scores/{scenario}"),
            processes=stage.processes(threads, device.type),
            on_report=lambda member, kind, value: bar.update(),
            fork=device.type == "cpu",
        )


def estimate_run(stage: Stage, run: Run, device: torch.device, folder: Path, report: Report) -> None:
    """The estimates from one network, in a process of its own; they go to `folder`."""
    torch.set_num_threads(stage.param("training.threads"))
    scenario = load_scenario(stage.dep(f"data/scenarios/{run.scenario}"))
    network, _ = load_network(stage.dep(run.folder))
    network.to(device)
    scores = score_examples(network, scenario, device)
    dynamics = pd.read_parquet(stage.dep(f"{run.folder}/dynamics.parquet"))
    scores = over_training(scores, dynamics, network, scenario, device)
    write_parquet(folder / "memorization.parquet", scores)
    influence_on_heldout(network, run, scenario, stage.param("estimate.influence"), device, folder / "influence")
    write_json(folder / "metrics.json", metrics_of(scores))
    report("done", None)


def score_examples(network: nn.Module, scenario: Scenario, device: torch.device) -> pd.DataFrame:
    """Memorization of every training example and placebo, beside what is known about its label."""
    watched = examples_of(scenario, "train", "placebo").to(device)
    frame = memorization(network, watched.images, watched.labels, watched.ids, neighbours=False)
    rows = scenario.of("train", "placebo")
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
    trained = examples_of(scenario, "train")
    near = neighbourhood(network, trained.images, trained.labels, trained.ids)
    sharpened = sharpen(scenario.of("train")[["id"]].merge(averaged, on="id", validate="1:1"), near)
    averaged = averaged.rename(columns={column: f"mean_{column}" for column in averaged.columns if column != "id"})
    scores = scores.merge(averaged, on="id", how="left", validate="1:1")
    return scores.merge(sharpened[["id", "leverage", "support", "sharpened"]], on="id", how="left", validate="1:1")


def influence_on_heldout(
    network: nn.Module, run: Run, scenario: Scenario, settings: InfluenceParams, device: torch.device, folder: Path
) -> None:
    """Write targets, top, totals and placebo (`.parquet`).

    All are of the localized scores, unless the settings say otherwise; ``total_raw...`` are of the raw ones either way.
    """
    trained = examples_of(scenario, "train")
    count = settings.targets if run.placement == "head" else settings.targets_all_layers
    targets = examples_of(scenario, "heldout")[:count].to(device)

    def summary_of(of: Examples) -> InfluenceSummary:
        return summarize(
            network,
            of.ids.to(device),
            of.labels.to(device),
            targets.images,
            targets.labels,
            measure=settings.measure,
            top=min(settings.top, len(of)),
            # So few pairs do not pay for a compiler run, and the bits must not depend on there being a compiler.
            fused=False,
            localized=Localized(of.images, sharpness=settings.sharpness, reference=trained.images)
            if settings.localized
            else None,
        )

    folder.mkdir(parents=True)
    summary = summary_of(trained)
    write_parquet(folder / "targets.parquet", predictions(network, targets))
    write_parquet(folder / "top.parquet", top_frame(summary, targets.ids.cpu().numpy()))
    write_parquet(folder / "totals.parquet", totals_frame(trained.ids, summary))
    # Placebos were never trained on: the null distribution of the totals.
    null = totals_frame(trained.ids, summary).head(0)
    if len(scenario.of("placebo")):
        placebos = examples_of(scenario, "placebo")
        null = totals_frame(placebos.ids, summary_of(placebos))
    write_parquet(folder / "placebo.parquet", null)


def totals_frame(ids: Tensor, summary: InfluenceSummary) -> pd.DataFrame:
    """Total influence of each example on all targets and on those of its class, localized and raw.

    Where nothing is localized, both are the raw one.
    """
    total, same_class = summary.total, summary.total_same_class
    raw, raw_same_class = summary.total_raw, summary.total_raw_same_class
    columns = {
        "id": ids,
        "total": total,
        "total_same_class": same_class,
        "total_raw": total if raw is None else raw,
        "total_raw_same_class": same_class if raw_same_class is None else raw_same_class,
    }
    return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})


def predictions(network: nn.Module, targets: Examples) -> pd.DataFrame:
    """What the full network says about the targets."""
    with evaluating(network), torch.no_grad():
        logits = torch.cat([network(batch.images) for batch in targets.in_order(512)])
    loss, _ = loss_and_margin(logits, targets.labels)
    columns = {"id": targets.ids, "given": targets.labels, "predicted": logits.argmax(1), "loss": loss}
    return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})


def top_frame(summary: InfluenceSummary, target_ids: np.ndarray) -> pd.DataFrame:
    """The most helpful and most harmful training examples of every target, one row each, the strongest first.

    Examples without any influence (localized, many have none) are neither: which of them came last is chance.
    """
    count, k = summary.helpful_ids.shape
    kinds = {
        "helpful": (summary.helpful_ids, summary.helpful),
        "harmful": (summary.harmful_ids, summary.harmful),
    }
    pieces = [
        pd.DataFrame(
            {
                "target": np.repeat(target_ids, k),
                "kind": kind,
                "rank": np.tile(np.arange(k), count),
                "example": ids.cpu().numpy().ravel(),
                "influence": values.cpu().numpy().ravel(),
            }
        )
        for kind, (ids, values) in kinds.items()
    ]
    found = pd.concat(pieces, ignore_index=True)
    return found[found["influence"] != 0.0].reset_index(drop=True)


def metrics_of(scores: pd.DataFrame) -> dict[str, Any]:
    """Means by group, the placebo's spread, and mislabel detection where there are wrong labels."""
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


if __name__ == "__main__":
    main(estimate_all, "estimate", "scenario", doc=__doc__)
