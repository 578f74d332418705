"""Train every seed of a scenario and placement, side by side: with turn-over dropout, or with ordinary dropout.

What every example does is recorded on the way, in the exposed, flipped and full networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from study.artefacts.files import write_csv, write_json, write_parquet
from study.context.fingerprint import member_key
from study.context.members import Member, make_members
from study.context.params import ParamsError, TrainingParams
from study.context.processes import Report
from study.context.runs import CONTROL, Run
from study.context.stage import Stage, main
from study.data.scenarios.examples import examples_of
from study.data.scenarios.scenario import Scenario, load_scenario
from study.networks.devices import processor, resolve_device, resolve_precision
from study.networks.masked import Architecture, make_network, save_network
from study.networks.zoo.small import image_statistics
from study.tracking import track
from study.training.gradients import save_similarity, watch_gradients
from turnover.batches.examples import Examples
from turnover.batches.outputs import loss_and_margin
from turnover.batches.passes import evaluating
from turnover.interruption import stop_on_signals
from turnover.progress import progress_bar
from turnover.training.augmentation import Augmentation
from turnover.training.checkpoints import discard
from turnover.training.dynamics import Dynamics, schedule
from turnover.training.epochs import Epoch
from turnover.training.loop import train
from turnover.training.settings import TrainingConfig
from turnover.training.snapshots import Snapshots


def train_all(stage: Stage) -> None:
    """The body of the stage: one training a seed, the networks' folder, and the curves of all seeds in one table."""
    settings: TrainingParams = stage.param("training")
    device = resolve_device(settings.device)
    # What is resolved on this machine decides the bits of a training, so it is part of what a finished one is known by.
    resolved = {
        "device": str(device),
        "precision": resolve_precision(settings.precision, device),
        "torch": torch.__version__,
        **processor(device),
    }
    data = f"data/scenarios/{stage.item['scenario']}"
    runs = {run.name: run for run in stage.runs()}
    members = [
        Member(run.name, str(run.seed), member_key(stage, [data], ["model", "training", "gradients"], also))
        for run in runs.values()
        for also in [{"seed": run.seed, **resolved}]
    ]
    keys = {member.place: member.key for member in members}
    total = len(members) * settings.epochs

    with (
        track(stage) as tracker,
        progress_bar(total=total, unit="epoch", description=f"training {len(members)} seeds") as bar,
    ):
        tracker.resolved(**resolved)

        def on_report(member: Member, kind: str, value: Any) -> None:
            tracker.epoch(runs[member.name], value[0], value[1])
            bar.update()

        out = stage.out(f"runs/{stage.item['scenario']}/{stage.item['placement']}")
        make_members(
            members,
            lambda member, folder, report: train_run(stage, runs[member.name], resolved, member, folder, report),
            store=stage.root / ".checkpoints" / "train",
            out=out,
            processes=stage.processes(settings.threads, device.type),
            on_report=on_report,
            fork=device.type == "cpu",
        )
        for member in members:
            discard(checkpoint_of(stage, member))
        curves = [pd.read_csv(out / place / "curve.csv").assign(seed=int(place)) for place in keys]
        curve = pd.concat(curves, ignore_index=True)
        name = f"{stage.item['scenario']}-{stage.item['placement']}"
        write_csv(stage.out(f"reports/curves/{name}.csv"), curve[["seed", *curves[0].columns.drop("seed")]])
        write_json(stage.out(f"made-by/{name}.json"), keys)
        for member in members:
            tracker.finished(runs[member.name], member.key, out / member.place)


def train_run(stage: Stage, run: Run, resolved: dict[str, str], member: Member, folder: Path, report: Report) -> None:
    """One training, in a process of its own; its results go to `folder`."""
    settings: TrainingParams = stage.param("training")
    torch.set_num_threads(settings.threads)
    device = torch.device(resolved["device"])
    masked = run.placement != CONTROL
    scenario = load_scenario(stage.dep(f"data/scenarios/{run.scenario}"))
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
    snapshots = Snapshots(settings.keep_checkpoints)

    with stop_on_signals() as stop:
        history = train(
            network,
            trained,
            training_config(settings, resolved["precision"], run.seed),
            turn_over=masked,
            dynamics=dynamics,
            snapshots=snapshots,
            recorders=[gradients] if gradients is not None else [],
            evaluate=lambda model: heldout_metrics(model, heldout),
            on_epoch=lambda epoch: report("epoch", (epoch.number, metrics_of(epoch))),
            checkpoint=checkpoint_of(stage, member),
            fingerprint=member.key,
            progress=False,
            stop=stop,
        )
    save_network(network, architecture, folder, dict(snapshots))
    if dynamics is not None and gradients is not None:
        write_parquet(folder / "dynamics.parquet", dynamics.frame())
        save_similarity(folder / "gradients.safetensors", gradients)
    curve = pd.DataFrame([{"epoch": epoch.number, **metrics_of(epoch)} for epoch in history])
    write_csv(folder / "curve.csv", curve)
    write_json(folder / "metrics.json", final_metrics(curve, dynamics, scenario))


def checkpoint_of(stage: Stage, member: Member) -> Path:
    """Where a training keeps its state, until its results are safe."""
    return stage.root / ".checkpoints" / f"{member.name}-{member.key}.pt"


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
        clip_norm=settings.clip_norm,
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


if __name__ == "__main__":
    main(train_all, "train", "scenario", "placement", doc=__doc__)
