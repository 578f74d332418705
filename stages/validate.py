"""Judge every estimate by retraining, beside the public estimators: the validation table."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from study.artefacts.files import write_csv, write_json
from study.artefacts.kept import Arrays, KeptResults, Result
from study.context.fingerprint import work_key
from study.context.members import Member, copy_members, make_once
from study.context.stage import Stage, main
from study.data.scenarios.scenario import load_scenario
from study.peers.inputs import check_extra, import_extra
from study.retraining.subsets import SubsetOutputs
from study.validation.judge import Judge
from study.validation.ours import control_rows, dropout_rows, kept_more_rows, retraining_rows, turn_over_rows
from study.validation.peers import cleanlab_row, cumulative_loss, datamodel_row, dynamics_rows, peer_rows
from study.validation.placebo import calibration
from study.validation.rows import Row
from study.validation.runs import dropout_run, half_run, kept_more_run, ordinary_run, out_of_fold, turn_over_run
from study.validation.settings import Problem
from study.validation.table import table
from turnover.progress import progress_bar


def run(stage: Stage) -> None:
    check_extra()
    name = stage.item["validation_set"]
    member = Member(name, "", work_key(stage))
    store = stage.root / ".checkpoints" / "validate"
    kept = stage.root / ".checkpoints" / f"validate-{name}-{member.key}"
    make_once(member, partial(validate_set, stage, name, kept), store=store)
    shutil.rmtree(kept, ignore_errors=True)  # not before the results are safe
    copy_members([member], store, stage.out(f"reports/validation/{name}"))


def validate_set(stage: Stage, name: str, kept: Path, folder: Path) -> None:
    """Judge every method on one validation set and write the tables; what takes minutes goes to `kept` on the way."""
    torch.set_num_threads(stage.param("comparison.threads"))
    problem = Problem(
        load_scenario(stage.dep(f"data/validation/{name}")),
        SubsetOutputs.load(stage.dep(f"ground_truth/{name}.npz")),
        stage.param("comparison"),
        stage.param(f"validation.{name}"),
        stage.param("retrain"),
        *(SubsetOutputs.load(stage.dep(f"ground_truth/{name}-{kind}.npz")) for kind in ("fitted", "again")),
    )
    result, costs = judge_all(problem, KeptResults(kept))
    write_json(folder / "result.json", result)
    write_csv(folder / "table.csv", table(result["rows"]))
    write_csv(folder / "cost.csv", costs, digits=3)


def judge_all(problem: Problem, kept: KeptResults) -> tuple[dict[str, Any], pd.DataFrame]:
    """Everything the stage finds out: the result without seconds, and the seconds of every row."""
    runs, networks, folds, half, kept_more, dropout = train_all(problem, kept)
    judge = Judge(problem, cumulative_loss(problem, networks))
    cleanlab, flagged, caught = cleanlab_row(problem, folds)

    def rows() -> Iterator[Row]:
        yield from turn_over_rows(problem, runs)
        yield from control_rows(problem, networks[: len(runs)])
        for keep, of in kept_more.items():
            yield from kept_more_rows(keep, of)
        yield from dropout_rows(dropout)
        yield from dynamics_rows(problem, networks)
        yield from peer_rows(problem, networks, kept)
        yield cleanlab
        yield from retraining_rows(problem, half.seconds)
        yield datamodel_row(problem, half.seconds)

    judged, costs = [], []
    for row in rows():
        judged.append(judge.judge(row))
        seconds = {"training": row.training, "attribution": row.attribution, "seconds": row.training + row.attribution}
        costs.append({"method": row.method, "networks": row.networks, **seconds})
    truth = problem.truth
    result = {
        "ground_truth": {
            "networks": len(truth.inside),
            "train": len(problem.train),
            "targets": len(problem.targets),
            "wrong_labels": int(problem.wrong.sum()),
            **judge.ceilings(),
        },
        "rows": judged,
        "turn_over_measures": judge.measures(runs),
        "placebo": calibration(problem, runs),
        "cleanlab_label_issues": {"flagged": flagged, "wrong_among_them": caught},
    }
    return result, pd.DataFrame(costs)


class Trained(NamedTuple):
    """Everything that was trained on a validation set."""

    runs: list[Result]  # with turn-over dropout
    networks: list[Result]  # ordinary ones
    folds: Result  # out-of-fold probabilities
    half: Result  # what a subset network costs
    kept_more: dict[float, list[Result]]  # with masks that keep more, by what they keep
    dropout: list[Result]  # with ordinary dropout


def train_all(problem: Problem, kept: KeptResults) -> Trained:
    """Train whatever `kept` does not have yet."""
    settings = problem.settings
    # What comes first in a process is slower: imports, and a training that is thrown away, take that upon themselves.
    import_extra()
    half_run(problem, epochs=1)
    few = range(min(2, len(settings.seeds)))
    total = len(settings.seeds) * (1 + len(settings.kept_more)) + settings.networks + 2 + len(few)
    with progress_bar(total=total, unit="training", description="validation") as bar:

        def get(name: str, make: Callable[[], Arrays]) -> Result:
            found = kept.get(name, make)
            bar.update()
            return found

        runs = [get(f"turn-over-{seed}", partial(turn_over_run, problem, seed)) for seed in settings.seeds]
        networks = [get(f"ordinary-{n}", partial(ordinary_run, problem, n)) for n in range(settings.networks)]
        half = partial(half_run, problem, problem.recipe.epochs)
        kept_more = {
            keep: [get(f"keep-{keep:g}-{seed}", partial(kept_more_run, problem, keep, seed)) for seed in settings.seeds]
            for keep in settings.kept_more
        }
        dropout = [get(f"dropout-{n}", partial(dropout_run, problem, n)) for n in few]
        folds = get("folds", partial(out_of_fold, problem))
        return Trained(runs, networks, folds, get("half", half), kept_more, dropout)


if __name__ == "__main__":
    main(run, "validate", "validation_set", doc=__doc__)
