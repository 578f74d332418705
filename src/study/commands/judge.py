"""Judge scores of your own by the networks retrained on subsets: `python -m study.commands.judge scores.npy`.

The file is an array of numpy (`numpy.save`), of floating-point numbers or integers, all finite. One dimension, [train]:
a memorization score, judged as a suspicion score too; higher is more memorized, more suspect. Two dimensions, [train,
target]: influence, positive where the training example helps the target. Row i is the training example with id i of
`data/validation/SET`, column t the t-th of its held-out examples (the first `comparison.targets` of params.yaml). Any
training will do, as long as it is on these training examples with their given labels, and on nothing else.

It prints the line of `reports/validation/SET/table.csv` that the method would get, figures and intervals alike, in CSV.
Empty stay what the file does not tell (networks, the figures of other kinds of scores) and `given_csl`, which takes
networks of the table's own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from study.commands.running import status_of
from study.context.runs import load_params
from study.data.scenarios.scenario import load_scenario
from study.retraining.subsets import SubsetOutputs
from study.validation.judge import Judge
from study.validation.rows import Row
from study.validation.settings import Problem
from study.validation.table import table
from turnover.errors import UserError


def load_problem(root: Path, name: str) -> Problem:
    """A validation set and its ground truth, as far as it is there; what is missing is said on standard error.

    Raises:
        UserError: there is no such set, or neither its examples nor its ground truth are here.
    """
    params = load_params(root)
    if name not in params.validation_sets:
        raise UserError(f"{name!r} is no validation set of params.yaml: use one of {', '.join(params.validation_sets)}")
    folder, truth = root / "data/validation" / name, root / "ground_truth"
    if not folder.is_dir():
        raise UserError(
            f"data/validation/{name} is missing: `dvc repro validation_data@{name}` draws its examples "
            "(seconds, after a download)"
        )
    usual = SubsetOutputs.load(truth / f"{name}.npz")
    more: dict[str, SubsetOutputs | None] = {}
    for kind, without in {"fitted": "the figures by fitted networks", "again": "the share of the ceiling"}.items():
        path = truth / f"{name}-{kind}.npz"
        more[kind] = SubsetOutputs.load(path) if path.exists() else None
        if more[kind] is None:
            print(
                f"ground_truth/{path.name} is missing, so {without} stay empty: `dvc repro judges@{name}` makes it",
                file=sys.stderr,
            )
    return Problem(load_scenario(folder), usual, params.comparison, params.validation[name], params.retrain, **more)


def read_scores(path: Path, train: int, targets: int) -> np.ndarray:
    """The scores in a file, float64 [train] or [train, target].

    Raises:
        UserError: the file is missing, is no array of numbers, or has another shape, or values that are not finite.
    """
    try:
        scores = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: give the path of an array that numpy.save wrote") from error
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read as an array of numbers ({error}): write it with "
            "numpy.save(path, numpy.asarray(scores, dtype=numpy.float32))"
        ) from error
    if not isinstance(scores, np.ndarray):
        raise UserError(f"{path} holds several arrays: save the one to judge alone, with numpy.save")
    if scores.dtype.kind not in "fiu":
        raise UserError(f"{path} holds {scores.dtype}: scores must be floating-point numbers or integers")
    if scores.shape not in ((train,), (train, targets)):
        turned = ": it seems to be transposed" if scores.shape == (targets, train) else ""
        raise UserError(
            f"{path} has shape {list(scores.shape)}{turned}; it must be [{train}] for memorization "
            f"or [{train}, {targets}] for influence (training examples, targets)"
        )
    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        raise UserError(f"{path} holds {int((~np.isfinite(scores)).sum())} values that are not finite numbers")
    return scores


def judge(root: Path, path: Path, name: str) -> None:
    """Print the line of the table."""
    problem = load_problem(root, name)
    scores = read_scores(path, len(problem.train), len(problem.targets))
    method = path.stem
    if scores.ndim == 2:
        row = Row(method, "own", 1, 0.0, 0.0, influence=[scores])
    else:
        row = Row(method, "own", 1, 0.0, 0.0, memorization=[scores], suspicion=[scores])
    unknown = {"given_csl": None, "networks": None}
    judged = {**Judge(problem, difficulty=np.zeros(len(problem.train))).judge(row), **unknown}
    table([judged]).to_csv(sys.stdout, index=False, lineterminator="\n")


def main() -> int:
    about, text = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        prog="python -m study.commands.judge",
        description=about,
        epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scores", type=Path, help="an array written by numpy.save: [train] or [train, target]")
    parser.add_argument("--set", default="validation", help="one of `validation_sets` in params.yaml (%(default)s)")
    arguments = parser.parse_args()
    return status_of(lambda root: judge(root, arguments.scores, arguments.set))


if __name__ == "__main__":
    sys.exit(main())
