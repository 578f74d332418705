"""Write the explorer: held-out examples with the training examples behind them, and what became of these."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from study.analysis.groups import PLACEBO, RANDOM, REAL
from study.analysis.inputs import NETWORKS, Study, read_study
from study.artefacts.files import writing
from study.context.params import InfluenceParams
from study.context.runs import Run
from study.context.stage import Stage, main
from study.data.scenarios.examples import examples_of
from study.data.scenarios.scenario import Scenario
from study.networks.masked import load_network
from turnover.attribution.influence import influence
from turnover.attribution.nearness import Localized
from turnover.exploring.explorer import Explorer
from turnover.exploring.writing import write_explorer
from turnover.scoring.memorization import combine

TARGETS = 250  # held-out examples, at most: half of them mistakes
EXAMPLES = 3000  # training examples, at most
TOP = 8  # most helpful and most harmful training examples of each target
TOP_TARGETS = 3  # targets that each training example helps and harms most
LARGEST = 2_900_000  # bytes: the page stands in git
_KINDS = {REAL: "real label", RANDOM: "random label"}


def run(stage: Stage) -> None:
    torch.set_num_threads(stage.param("training.threads"))
    study = read_study(stage)
    found = explorer_of(stage, study)
    with writing(stage.out("reports/explorer.html")) as beside:
        write_explorer(found, beside, limit=LARGEST)


def explorer_of(stage: Stage, study: Study) -> Explorer:
    """What the page shows: one scenario and placement, means over its seeds."""
    runs = study.runs(study.shown.scenario, study.shown.placement)
    scenario = study.scenarios[study.shown.scenario]
    targets = targets_table(study, runs)
    scores = influence_of(stage, runs, scenario, targets["id"].to_numpy())
    training = training_table(study, runs, scenario)
    ids = scenario.of("train")["id"].to_numpy()
    shown = chosen_examples(training, ids, scores.mean(0))
    training = training.set_index("id").loc[shown].reset_index()
    epochs, curves = learning_curves(study, runs, shown)
    count = len(ids)
    return Explorer(
        title="The training examples behind a prediction",
        classes=scenario.classes,
        training=training,
        targets=targets,
        pairs=pairs_table(scores[:, np.isin(ids, shown)], np.sort(shown), targets["id"].to_numpy()),
        training_images=scenario.images[shown],
        target_images=scenario.images[targets["id"].to_numpy()],
        placebos=memorization(study, runs, PLACEBO)["probability"].to_numpy(),
        epochs=epochs,
        curves=curves,
        networks=len(runs),
        influence=measured(stage.param("estimate.influence")),
        suspicion="share of like examples with other labels",
        about=[
            f"{len(targets)} held-out and {'all' if len(shown) == count else f'{len(shown):,} of'} {count:,} training "
            f"examples of {scenario.dataset}, scenario {scenario.name}. Numbers are of {words(len(runs))}."
        ],
        links={"The report": "index.html"},
    )


def measured(settings: InfluenceParams) -> str:
    """What the influences are, as stage `estimate` computes them."""
    of = {"loss": "on the loss, in nats", "margin": "on the margin"}[settings.measure]
    return of + (", damped between unlike images" if settings.localized else "")


def words(networks: int) -> str:
    """How many networks the numbers are of."""
    return "one network" if networks == 1 else f"{networks} networks: means, with standard errors"


def targets_table(study: Study, runs: list[Run]) -> pd.DataFrame:
    """The held-out examples that are shown, in order of id: the worst mistakes, and as many others, evenly by class."""
    tables = pd.concat([study.targets[of] for of in runs])
    tables = tables.assign(wrong=tables["predicted"] != tables["given"], probability=np.exp(-tables["loss"]))
    by_id = tables.groupby("id")
    table = pd.DataFrame(
        {
            "label": by_id["given"].first(),
            "predicted": by_id["predicted"].agg(lambda of: int(np.bincount(of).argmax())),
            "probability": by_id["probability"].mean(),
            "wrong_networks": by_id["wrong"].sum(),
        }
    ).reset_index()
    mistaken = table["predicted"] != table["label"]
    worst = table[mistaken].sort_values(["probability", "id"]).head(TARGETS // 2)
    others = table[~mistaken].assign(turn=lambda of: of.groupby("label").cumcount()).sort_values(["turn", "label"])
    return pd.concat([worst, others.head(TARGETS - len(worst))])[table.columns].sort_values("id", ignore_index=True)


def influence_of(stage: Stage, runs: list[Run], scenario: Scenario, targets: np.ndarray) -> np.ndarray:
    """Influence of every training example on the targets by each network, as stage `estimate` computes it.

    Returns:
        float32 [run, train, target].
    """
    trained, heldout = examples_of(scenario, "train"), examples_of(scenario, "heldout")
    heldout = heldout[torch.isin(heldout.ids, torch.tensor(targets))]
    settings: InfluenceParams = stage.param("estimate.influence")
    near = Localized(trained.images, sharpness=settings.sharpness) if settings.localized else None
    found = []
    for of in runs:
        network, _ = load_network(stage.dep(of.folder))
        asked = (trained.ids, heldout.images, heldout.labels, settings.measure)
        found.append(influence(network, *asked, localized=near, fused=False).numpy())
    return np.stack(found)


def memorization(study: Study, runs: list[Run], *kinds: str) -> pd.DataFrame:
    """Memorization of all examples of some kinds, the mean over the runs, in columns ``..._se`` its standard error."""
    examples = study.scenarios[runs[0].scenario].examples
    ids = examples.loc[examples["kind"].isin(kinds), "id"]
    tables = [study.memorization[of] for of in runs]
    tables = [table[table["id"].isin(ids)] for table in tables]
    return combine(tables) if len(tables) > 1 else tables[0]


def training_table(study: Study, runs: list[Run], scenario: Scenario) -> pd.DataFrame:
    """Labels and scores of all training examples, in order of id."""
    scores = memorization(study, runs, REAL, RANDOM)
    columns = {"memorization": scores["probability"], "memorization_loss": scores["loss"]}
    columns["suspicion"] = 1.0 - scores["support"]
    if len(runs) > 1:
        columns["memorization_se"] = scores["probability_se"]
    table = scenario.of("train")[["id", "given", "original", "kind"]]
    table = table.assign(kind=table["kind"].map(_KINDS))
    return table.merge(pd.DataFrame({"id": scores["id"], **columns}), on="id", validate="1:1").sort_values("id")


def chosen_examples(training: pd.DataFrame, ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The ids that are shown, ascending: all, or of many those behind the predictions, the most memorized and suspect.

    Args:
        training: see `training_table`.
        ids: of the rows of the scores.
        scores: mean influence [train, target].
    """
    if len(ids) <= EXAMPLES:
        return ids
    behind = np.unique(np.concatenate([strongest(column) for column in scores.T]))[:EXAMPLES]
    first = [training.nlargest(EXAMPLES, score)["id"].to_numpy() for score in ("memorization_loss", "suspicion")]
    by_turns = np.concatenate([ids[behind], np.stack(first, axis=1).ravel()])
    return np.sort(pd.unique(by_turns)[:EXAMPLES])


def strongest(values: np.ndarray, count: int = TOP) -> np.ndarray:
    """Places of the `count` largest positive and the `count` smallest negative values."""
    order = np.argsort(-values, kind="stable")
    positive, negative = order[:count], order[::-1][:count]
    return np.concatenate([positive[values[positive] > 0], negative[values[negative] < 0]])


def pairs_table(scores: np.ndarray, ids: np.ndarray, targets: np.ndarray) -> pd.DataFrame:
    """The strongest pairs of every target and of every training example, a row each.

    Args:
        scores: influence [run, train, target].
        ids: of the training examples.
        targets: ids of the targets.
    """
    mean = scores.mean(0)
    chosen = np.zeros(mean.shape, bool)
    for column, values in enumerate(mean.T):
        chosen[strongest(values), column] = True
    for row, values in enumerate(mean):
        chosen[row, strongest(values, TOP_TARGETS)] = True
    rows, columns = np.nonzero(chosen)
    found = scores[:, rows, columns]
    pairs = {"target": targets[columns], "example": ids[rows], "influence": mean[rows, columns]}
    if len(scores) > 1:
        pairs["influence_se"] = found.std(0, ddof=1) / np.sqrt(len(scores))
        pairs["agree"] = (np.sign(found) == np.sign(pairs["influence"])).sum(0)
    return pd.DataFrame(pairs)


def learning_curves(study: Study, runs: list[Run], ids: np.ndarray) -> tuple[list[int], dict[str, np.ndarray]]:
    """The recorded epochs, and the mean probability of the given label in each network: [example, epoch]."""
    losses = [f"loss_{network}" for network in NETWORKS]
    total: pd.DataFrame | None = None
    for of in runs:
        table = study.dynamics[of]
        table = table[table["id"].isin(ids)].set_index(["id", "epoch"])[losses].sort_index()
        likely = pd.DataFrame(np.exp(-table.to_numpy(np.float64)), table.index, losses)
        total = likely if total is None else total + likely
    assert total is not None
    mean = total / len(runs)
    curves = {network: mean[loss].unstack("epoch") for network, loss in zip(NETWORKS, losses, strict=True)}
    epochs = [int(epoch) for epoch in curves[NETWORKS[0]].columns]
    return epochs, {network: curve.loc[ids].to_numpy() for network, curve in curves.items()}


if __name__ == "__main__":
    main(run, "explorer", doc=__doc__)
