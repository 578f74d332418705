"""A small make-believe study: what the stages before `figures` leave behind, without training anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from stages import explorer, figures, findings, report, summarize
from study.context.params import ModelParams
from study.context.rules import CONTROL
from study.context.runs import Run, load_params, runs_of
from study.context.stage import run_stage
from study.data.scenarios.scenario import Scenario, load_scenario, save_scenario
from study.networks.masked import Architecture, make_network, save_network
from tests.support import ROOT as REPOSITORY

SCENARIOS = {"real": 0.0, "mixed": 0.25}
PLACEMENTS = ("all", "head", "dropout")
SEEDS = {"head": [0, 1, 2], "other": [0, 1]}
VALIDATION = "validation"
TRAIN, PLACEBO, HELDOUT, CLASSES = 60, 12, 30, ("cup", "hat", "bag")
FEW = 5  # held-out examples whose influences are known, for placements other than head
EPOCHS = (0, 1, 2, 3, 5)
REMOVAL = "reports/metrics/removal.csv"
MODEL = ModelParams(name="mlp", options={"hidden": 16}, keep=0.5)
REMOVED = 0.3  # of the examples


def make_repository(
    root: Path,
    *,
    seeds: dict[str, list[int]] | None = None,
    scenarios: dict[str, float] | None = None,
    placements: tuple[str, ...] = PLACEMENTS,
    removal: bool = True,
    validation: bool = True,
    variants: bool = True,
) -> Path:
    """Fill `root` with dvc.yaml, params.yaml and the artefacts of every run, removal and validation. Returns it.

    Args:
        root: an empty folder.
        seeds: as in params.yaml.
        scenarios: the fraction of random labels in each.
        placements: as in params.yaml.
        removal: were networks retrained without some examples?
        validation: were the estimates compared with others?
        variants: was the study made in other settings?
    """
    scenarios = SCENARIOS if scenarios is None else scenarios
    yaml = YAML()
    stages = yaml.load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    if not removal:
        for name in ("findings", "figures"):
            stages["stages"][name]["deps"].remove(REMOVAL)
    with (root / "dvc.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(stages, file)
    params = yaml.load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    params["scenarios"], params["placements"], params["seeds"] = list(scenarios), list(placements), seeds or SEEDS
    params["labels"]["noise"] = dict(scenarios)
    params["removal"].update(scenarios=list(scenarios), fractions=[REMOVED])
    params["validation_sets"] = [VALIDATION]
    params["data"].update(train=TRAIN, placebo=PLACEBO, heldout=HELDOUT)
    params["training"].update(epochs=EPOCHS[-1], batch_size=20)
    params["estimate"]["influence"].update(targets=HELDOUT, targets_all_layers=FEW)
    params["figures"].update(gallery=4, mistakes=2, neighbours=3, dpi=50)
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    settings = load_params(root)
    for name, fraction in scenarios.items():
        scenario = _scenario(name, fraction)
        save_scenario(scenario, _made(root / "data/scenarios" / name))
        for place, placement in enumerate(placements):
            for run in runs_of(settings, name, placement):
                if placement == CONTROL:
                    _metrics(root, run)
                else:
                    _run(root, scenario, run, np.random.default_rng([run.seed, place, len(name)]))
    if removal:
        rows = [row for name, of in scenarios.items() for seed in (0, 1) for row in _removals(name, of, seed)]
        columns = ["scenario", "seed", "order", "action", "fraction", "train", "heldout_accuracy", "heldout_loss"]
        pd.DataFrame(rows, columns=columns).to_csv(_made(root / REMOVAL), index=False)
    if validation:
        _validation(root / "reports/validation" / VALIDATION)
    if variants:
        add_variant(root, "noisy", "labels.noise.mixed", 0.4, 0.25, only=("P1", "P2"))
        add_variant(root, "large", "data.train", 120, TRAIN, worth=0.5)
        add_variant(root, "small", "data.train", 30, TRAIN, worth=2.0)
    return root


def add_variant(
    root: Path,
    name: str,
    varies: str,
    value: float,
    default: float,
    *,
    only: tuple[str, ...] = ("P1", "P2", "P3", "P4"),
    worth: float = 1.0,
) -> Path:
    """What `make variants` keeps of a variant, with effects of `worth`. Returns its folder."""
    folder = root / "reports/variants" / name
    place = len(list(folder.parent.glob("*")))
    folder.mkdir(parents=True)
    about = {"about": f"{name} variant", "place": place, "varies": varies, "value": value, "default": default}
    (folder / "made-by.json").write_text(json.dumps(about), encoding="utf-8")

    def numbers(mean: float, unit: str) -> dict[str, object]:
        return {"mean": mean * worth, "low": mean * worth - 0.3, "high": mean * worth + 0.3, "unit": unit}

    claims = []
    for key, claim, scenario, plain, unit in (
        ("P1", "easy_faster", "mixed", 3.0, "epochs later"),
        ("P2", "together", "mixed", 9.0, "% likelier after one epoch"),
        ("P3", "easy_faster_real", "real", 2.0, "epochs later"),
        ("P4", "tell_more", "real", -4.0, "points of accuracy"),
    ):
        if key in only:
            where = {"scenario": scenario, "placement": "retrained" if key == "P4" else "head"}
            about = {"key": key, "name": claim, "title": f"title of {key}", "text": f"text of {key}", "seeds": 3}
            more = {"alone": numbers(-8.0, unit)} if key == "P4" else {}
            claims.append({**about, **where, **numbers(0.5, "nats"), "plain": numbers(plain, unit), "more": more})
    (folder / "findings.json").write_text(json.dumps({"claims": claims}), encoding="utf-8")
    of = "memorization (probability) at the end, {} examples minus placebos"
    rows = [
        {"scenario": scenario, "placement": "head", "text": of.format(who), **numbers(0.4, "probability"), "seeds": 3}
        for scenario, who in (("mixed", "wrongly labelled"), ("mixed", "real difficult"), ("real", "real difficult"))
    ]
    pd.DataFrame(rows).to_csv(folder / "effects.csv", index=False)
    return folder


def make_results(root: Path) -> Path:
    """Run the stages that make findings, summary, figures, explorer and report. Returns the root."""
    for stage in (findings, summarize, figures, explorer, report):
        assert run_stage(stage.run, stage.__name__.removeprefix("stages."), {}, root=root) == 0
    return root


def own_results(results: Path, root: Path) -> Path:
    """The same runs as if of one's own images, with figures, summary and report of them. Returns the root."""
    shutil.copytree(results, root, dirs_exist_ok=True)
    for folder in (root / "data/scenarios").iterdir():
        scenario = load_scenario(folder)
        names = [f"photos/{number}.png" for number in scenario.examples["id"]]
        own = replace(scenario, dataset="folder:photos", examples=scenario.examples.assign(name=names))
        shutil.rmtree(folder)
        save_scenario(own, folder)
    params = (root / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(
        params.replace("dataset: fashion-mnist", "dataset: folder:photos", 1), encoding="utf-8"
    )
    for stage in (summarize, figures, report):
        assert run_stage(stage.run, stage.__name__.removeprefix("stages."), {}, root=root) == 0
    return root


def _validation(folder: Path) -> None:
    """The tables of a comparison of three methods, one of which cannot say whom it memorized."""
    folder.mkdir(parents=True)
    rows = [
        ("turn-over raw", "turn-over", 1, 0.71, 0.68, 0.74, 0.16, 0.15, 0.17, 0.98, 0.9),
        ("turn-over sharpened", "turn-over", 1, 0.83, 0.82, 0.84, 0.47, 0.46, 0.48, 0.98, 0.9),
        ("turn-over pooled", "turn-over", 4, None, None, None, 0.55, 0.54, 0.56, None, None),
        ("TRAK", "peer", 10, None, None, None, 0.12, 0.1, 0.14, None, None),
    ]
    scores = [name + end for name in ("memorization", "lds") for end in ("", "_low", "_high")]
    columns = ["method", "family", "networks", *scores, "auroc", "average_precision"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "table.csv", index=False)
    cost = [(row[0], row[2], seconds) for row, seconds in zip(rows, (12.4, 14, 60, 240), strict=True)]
    pd.DataFrame(cost, columns=["method", "networks", "seconds"]).to_csv(folder / "cost.csv", index=False)
    result = {"ground_truth": {"networks": 200}}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _removals(name: str, noise: float, seed: int) -> Iterator[tuple[object, ...]]:
    """Accuracy falls with what is removed, most with the most memorized; with noise it rises instead."""
    worth = {"most_memorized": -0.5 if noise else 1.0, "least_memorized": 0.1, "random": 0.4}
    worth |= {f"balanced_{order}": of for order, of in worth.items()}
    yield name, seed, "none", "remove", 0.0, TRAIN, 0.85 + 0.01 * seed, 0.5
    for place, (order, of) in enumerate(worth.items()):
        wobble = 0.001 * (seed + 1) * (place + 1)
        for action, count in (("remove", REMOVED), ("keep", 1 - REMOVED)):
            if action == "remove" or order.startswith("balanced_"):
                accuracy = 0.85 + 0.01 * seed - 0.2 * of * count + wobble
                yield name, seed, order, action, REMOVED, round((1 - count) * TRAIN), accuracy, 1.4 - accuracy
    if noise and noise < 1:
        for order, gain in (("flagged", 0.02), ("oracle", 0.03)):
            yield name, seed, order, "remove", noise, round((1 - noise) * TRAIN), 0.85 + 0.01 * seed + gain, 0.5


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _scenario(name: str, fraction: float) -> Scenario:
    rng = np.random.default_rng(len(name))
    n = TRAIN + PLACEBO + HELDOUT
    original = rng.integers(0, len(CLASSES), n)
    split = np.repeat(["train", "placebo", "heldout"], [TRAIN, PLACEBO, HELDOUT])
    is_random = np.zeros(n, bool)
    is_random[: round(fraction * TRAIN)] = True
    given = np.where(is_random, rng.integers(0, len(CLASSES), n), original)
    # Every class has its own stripe, so that a person looking at a test's pictures sees the label.
    images = rng.integers(0, 90, (n, 1, 8, 8))
    images[np.arange(n), 0, 2 * original] += 150
    examples = pd.DataFrame(
        {"id": np.arange(n), "split": split, "given": given, "original": original, "is_random": is_random}
    )
    return Scenario(name, images.astype(np.uint8), examples, CLASSES, "make-believe")


def _run(root: Path, scenario: Scenario, run: Run, rng: np.random.Generator) -> None:
    """One masked run: examples later in the list are harder, random ones hardest, placebos never learned."""
    examples = scenario.of("train", "placebo").reset_index(drop=True)
    ids = examples["id"].to_numpy()
    trained = (examples["split"] == "train").to_numpy()
    hard = np.where(examples["is_random"], 1.0, 0.1 + 0.7 * ids / TRAIN)
    pieces = []
    for epoch in EPOCHS:
        learned = 1 - np.exp(-epoch / (0.5 + 3 * hard))
        noise = rng.normal(0, 0.05, (3, len(ids)))
        generalized = np.where(trained, 1 - hard, 0.6)
        losses = {
            "exposed": 1.1 * (1 - np.where(trained, learned, learned * generalized)),
            "flipped": 1.1 * (1 - learned * generalized) + 2 * hard * learned * trained,
            "full": 1.1 * (1 - learned * (1 + generalized) / 2),
        }
        columns: dict[str, object] = {"epoch": np.full(len(ids), epoch, np.int32), "id": ids}
        for (network, loss), wobble in zip(losses.items(), noise, strict=True):
            value = np.abs(loss + wobble).astype(np.float32)
            columns |= {f"loss_{network}": value, f"margin_{network}": 0.7 - value, f"correct_{network}": value < 0.7}
        pieces.append(pd.DataFrame(columns))
    dynamics = pd.concat(pieces, ignore_index=True)
    dynamics.to_parquet(_made(root / run.folder / "dynamics.parquet"))
    last = dynamics[dynamics["epoch"] == EPOCHS[-1]].reset_index(drop=True)
    exposed, flipped = last["loss_exposed"].to_numpy(), last["loss_flipped"].to_numpy()
    memorization = examples[["id", "split", "given", "original", "is_random"]].assign(
        loss=flipped - exposed,
        probability=np.exp(-exposed) - np.exp(-flipped),
        accuracy=last["correct_exposed"].astype(int) - last["correct_flipped"].astype(int),
        loss_exposed=exposed,
        loss_flipped=flipped,
        loss_full=last["loss_full"],
        support=np.where(trained, np.where(examples["is_random"], 0.1, 0.9) + rng.normal(0, 0.03, len(ids)), np.nan),
    )
    memorization.to_parquet(_made(root / run.scores / "memorization.parquet"))
    _influence(root / run.scores / "influence", scenario, run.placement, hard, rng)
    about = Architecture(run, MODEL, (1, 8, 8), CLASSES, (0.5,), (0.2,))
    save_network(make_network(about), about, root / run.folder)
    sample = np.arange(0, TRAIN, 2)
    cosines = {of: rng.uniform(-0.1, 0.3, (3, len(sample) * (len(sample) - 1) // 2)) for of in ("exposed", "full")}
    held: dict[str, np.ndarray] = {of: values.astype(np.float16) for of, values in cosines.items()}
    held |= {"ids": sample, "epochs": np.array([0, 2, 5])}
    save_file(held, root / run.folder / "gradients.safetensors")
    _metrics(root, run, examples, last)
    after = np.arange(1, EPOCHS[-1] + 1)
    accuracy = 0.4 + 0.08 * after + 0.01 * run.seed
    pd.DataFrame({"epoch": after, "heldout_loss": 1.5 - accuracy, "heldout_accuracy": accuracy}).to_csv(
        root / run.folder / "curve.csv", index=False
    )


def _influence(folder: Path, scenario: Scenario, placement: str, hard: np.ndarray, rng: np.random.Generator) -> None:
    train, heldout = scenario.of("train"), scenario.of("heldout").head(HELDOUT if placement == "head" else FEW)
    sign = np.where(train["is_random"], -1.0, 1.0)
    matrix = rng.normal(0, 0.2, (TRAIN, len(heldout))) + (sign * hard[:TRAIN])[:, None]
    same = train["given"].to_numpy()[:, None] == heldout["given"].to_numpy()
    totals = {"id": train["id"].to_numpy(), "total": matrix.sum(1), "total_same_class": (matrix * same).sum(1)}
    pd.DataFrame(totals).to_parquet(_made(folder / "totals.parquet"))
    placebo = {"id": np.arange(TRAIN, TRAIN + PLACEBO), "total": rng.normal(0, 1, PLACEBO)}
    pd.DataFrame({**placebo, "total_same_class": placebo["total"] / 2}).to_parquet(folder / "placebo.parquet")
    predicted = heldout["given"].to_numpy().copy()
    predicted[:4] = (predicted[:4] + 1) % len(CLASSES)
    loss = rng.exponential(1.0, len(heldout)).astype(np.float32)
    targets = {"id": heldout["id"].to_numpy(), "given": heldout["given"].to_numpy(), "predicted": predicted}
    pd.DataFrame({**targets, "loss": loss}).to_parquet(folder / "targets.parquet")
    order = np.argsort(-matrix, axis=0)
    rows = [
        {"target": target, "kind": kind, "rank": rank, "example": example, "influence": matrix[example, column]}
        for column, target in enumerate(targets["id"])
        for kind, chosen in (("helpful", order[:6, column]), ("harmful", order[::-1][:6, column]))
        for rank, example in enumerate(chosen)
    ]
    pd.DataFrame(rows).to_parquet(folder / "top.parquet")


def _metrics(root: Path, run: Run, examples: pd.DataFrame | None = None, last: pd.DataFrame | None = None) -> None:
    """The metrics that the stages train and estimate leave of a run, or of the control's."""
    train: dict[str, object] = {"heldout_accuracy": 0.84 + 0.01 * run.seed, "epochs": EPOCHS[-1]}
    if examples is not None and last is not None:
        train["heldout_accuracy"] = 0.835 + 0.01 * run.seed
        trained, is_random = examples["split"] == "train", examples["is_random"]
        for kind, group in (("real", last[trained & ~is_random]), ("random", last[trained & is_random])):
            if len(group):
                for network in ("exposed", "flipped", "full"):
                    train[f"accuracy_{kind}_{network}"] = float(group[f"correct_{network}"].mean())
        estimate: dict[str, object] = {}
        if is_random.any():
            scores = {"low_support": 0.98, "loss_flipped": 0.97, "memorization_probability": 0.96, "loss_full": 0.8}
            for measure, less in (("mislabel_auroc", 0.0), ("mislabel_average_precision", 0.1)):
                estimate[measure] = {score: value - less - 0.01 * run.seed for score, value in scores.items()}
        (root / run.scores / "metrics.json").write_text(json.dumps(estimate), encoding="utf-8")
    _made(root / run.folder / "metrics.json").write_text(json.dumps(train), encoding="utf-8")
