"""Train one network with turn-over dropout, recording what every example does."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from study.artefacts.files import write_csv, write_json, write_parquet
from study.context.fingerprint import fingerprint, hash_of
from study.context.params import ParamsError, TrainingParams
from study.context.runs import CONTROL, Run
from study.context.stage import Stage, main
from study.data.scenarios.examples import examples_of
from study.data.scenarios.scenario import Scenario, load_scenario
from study.networks.devices import processor, resolve_device, resolve_precision
from study.networks.gradients import save_similarity, watch_gradients
from study.networks.masked import Architecture, check_networks, make_network, save_network
from study.networks.zoo.small import image_statistics
from study.tracking import track
from turnover.reading.examples import Examples
from turnover.reading.outputs import loss_and_margin
from turnover.reading.passes import evaluating
from turnover.training.augmentation import Augmentation
from turnover.training.checkpoints import discard
from turnover.training.dynamics import Dynamics, schedule
from turnover.training.epochs import Epoch
from turnover.training.interruption import stop_on_signals
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig
from turnover.training.snapshots import Snapshots


def train_run(stage: Stage, run: Run) -> None:
    """The body of the stages `train` and `control`."""
    stage.check(check_networks)
    settings: TrainingParams = stage.param("training")
    device = resolve_device(settings.device)
    precision = resolve_precision(settings.precision, device)
    torch.set_num_threads(settings.threads)
    masked = run.placement != CONTROL
    scenario = load_scenario(stage.dep(f"data/{run.scenario}"))
    trained, watched, heldout = (
        examples_of(scenario, *splits).to(device) for splits in (("train",), ("train", "placebo"), ("heldout",))
    )
    architecture = describe(scenario, run, stage.param("model"), trained)
    network = make_network(architecture).to(device)
    try:
        epochs = schedule(settings.epochs, settings.dynamics_epochs)
    except ValueError as error:
        raise ParamsError(f"params.yaml: {error}") from error
    dynamics = Dynamics(watched, epochs) if masked else None
    gradients = watch_gradients(scenario, trained, stage.param("gradients"), settings.epochs) if masked else None
    config = training_config(settings, precision, run.seed)
    snapshots = Snapshots(settings.keep_checkpoints)
    # What is resolved on this machine belongs to a checkpoint's identity, but not to the outs', which DVC keeps.
    made_by = fingerprint(stage)
    resolved = {"device": str(device), "precision": precision, "torch": torch.__version__, **processor(device)}
    checkpoint = stage.root / ".checkpoints" / f"{run.name}-{hash_of({'stage': made_by, **resolved})}.pt"

    with track(stage, run) as tracker, stop_on_signals() as stop:
        tracker.resolved(**resolved)
        history = train(
            network,
            trained,
            config,
            turn_over=masked,
            dynamics=dynamics,
            snapshots=snapshots,
            recorders=[gradients] if gradients is not None else [],
            evaluate=lambda model: heldout_metrics(model, heldout),
            on_epoch=lambda epoch: tracker.epoch(epoch.number, metrics_of(epoch)),
            checkpoint=checkpoint,
            fingerprint=checkpoint.stem,
            stop=stop,
        )
        save_network(network, architecture, made_by, stage.out(f"models/{run.name}"), snapshots)
        if dynamics is not None and gradients is not None:
            write_parquet(stage.out(f"dynamics/{run.name}.parquet"), dynamics.frame())
            save_similarity(stage.out(f"gradients/{run.name}.safetensors"), gradients)
        curve = pd.DataFrame([{"epoch": epoch.number, **metrics_of(epoch)} for epoch in history])
        write_csv(stage.out(f"reports/metrics/train/{run.name}.csv"), curve)
        write_json(stage.out(f"reports/metrics/train/{run.name}.json"), final_metrics(curve, dynamics, scenario))
        tracker.results()
    discard(checkpoint)


def training_config(settings: TrainingParams, precision: str, seed: int) -> TrainingConfig:
    """What the library needs of the settings."""
    return TrainingConfig(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        optimizer=settings.optimizer,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        schedule=settings.schedule,
        label_smoothing=settings.label_smoothing,
        clip_norm=settings.clip_norm,
        ema=settings.ema,
        augmentation=Augmentation(**settings.augmentation.model_dump()),
        precision=precision,
        compile=settings.compile,
        seed=seed,
    )


def describe(scenario: Scenario, run: Run, model: Any, trained: Examples) -> Architecture:
    """The architecture of a run; normalisation comes from the training examples."""
    mean, std = image_statistics(trained.images.cpu())
    channels, height, width = trained.images.shape[1:]
    return Architecture(run, model, (channels, height, width), scenario.classes, tuple(mean), tuple(std))


def heldout_metrics(model: torch.nn.Module, heldout: Examples) -> dict[str, float]:
    """Mean loss and accuracy of the full network on the held-out examples."""
    losses, margins = [], []
    with evaluating(model), torch.no_grad():
        for batch in heldout.in_order(128 if heldout.ids.device.type == "cpu" else 1024):
            loss, margin = loss_and_margin(model(batch.images), batch.labels)
            losses.append(loss)
            margins.append(margin)
    return {
        "heldout_loss": torch.cat(losses).double().mean().item(),
        "heldout_accuracy": (torch.cat(margins) > 0).double().mean().item(),
    }


def metrics_of(epoch: Epoch) -> dict[str, float]:
    """What the curve and the tracking keep of an epoch."""
    return {"train_loss": epoch.loss, "train_accuracy": epoch.accuracy, **epoch.extra}


def final_metrics(curve: pd.DataFrame, dynamics: Dynamics | None, scenario: Scenario) -> dict[str, Any]:
    """The figures of a finished run: held-out accuracy, and accuracy on real and random training labels."""
    last = curve.iloc[-1]
    metrics: dict[str, Any] = {key: round(float(last[key]), 6) for key in curve.columns if key != "epoch"}
    metrics["epochs"] = int(last["epoch"])
    if dynamics is None:
        return metrics
    frame = dynamics.frame()
    final = frame[frame["epoch"] == frame["epoch"].max()].merge(scenario.examples, on="id")
    trained = final[final["split"] == "train"]
    for name, group in (("real", trained[~trained["is_random"]]), ("random", trained[trained["is_random"]])):
        if len(group):
            for of in ("exposed", "flipped", "full"):
                metrics[f"accuracy_{name}_{of}"] = round(float(group[f"correct_{of}"].mean()), 6)
    return metrics


def run(stage: Stage) -> None:
    item = stage.item
    train_run(stage, Run(item["scenario"], item["placement"], int(item["seed"])))


if __name__ == "__main__":
    main(run, "train", "scenario", "placement", "seed", doc=__doc__)
