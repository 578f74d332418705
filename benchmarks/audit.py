"""Finding wrong labels: `turnover audit` beside cleanlab, on the same images and embeddings, network and machine.

Images lie as PNG files in class folders, embeddings are what a network trained on other images holds of them. Labels
are made wrong in three ways: symmetric (any other class), pair (the next class), instance (a difficult example gets the
class that it is likely taken for). cleanlab gets out-of-fold probabilities: of images those of the same network, five
times trained without masks; of embeddings those of logistic regression. Its Datalab judges the embeddings alone.

Every row is kept as soon as it is measured, and measured once: the same command goes on where it stopped.

    python benchmarks/audit.py                       # 10,000 images of Fashion-MNIST, and digits, into docs/audit.csv
    python benchmarks/audit.py --show                # the tables of docs/audit.md, from docs/audit.csv
    python benchmarks/audit.py --examples 2000 --rates 0.05 --sets fashion-mnist --out build/audit.csv
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from study.data.sources.dataset import Dataset, load
from study.data.sources.fetching import fetch, local_files
from turnover import audit, remove, train
from turnover.auditing.evidence import config_of
from turnover.auditing.networks import Standardized, make_network
from turnover.auditing.settings import Settings, choose
from turnover.batches.examples import Examples

FOLDS = 5
KINDS = ("symmetric", "pair", "instance")
EMBEDDED = 4000  # images that the network of the embeddings is trained on, none of those that are audited
KEPT = Path(__file__).parents[1] / "docs" / "audit.csv"
KEYS = ["set", "examples", "kind", "rate", "seed", "data", "method"]  # of a row; the rest is measured

Images = np.ndarray[Any, np.dtype[np.uint8]]
Labels = np.ndarray[Any, np.dtype[np.int64]]
Features = np.ndarray[Any, np.dtype[np.float32]]
Scores = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Judged:
    """The suspicion of every example, by its place; of an audit also its list and its count of wrong labels."""

    scores: Scores
    listed: list[int] | None = None
    expected: float = np.nan


@dataclass(frozen=True, eq=False)
class Task:
    """Examples of which some labels are wrong; what a method wants of them is made before its clock runs."""

    images: Images
    labels: Labels
    given: Labels
    other: tuple[Images, Labels]
    classes: int

    @cached_property
    def wrong(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return np.asarray(self.given != self.labels)

    @cached_property
    def features(self) -> Features:
        return embedded(self.images, self.other, self.classes)


def make_task(dataset: Dataset, count: int, kind: str, rate: float, seed: int) -> Task:
    """Some examples of `dataset`, a share of them with wrong labels."""
    order = np.random.default_rng(seed).permutation(len(dataset.train))
    count = min(count, len(order) * 2 // 3)
    rows, others = np.sort(order[:count]), np.sort(order[count : count + EMBEDDED])
    images, labels = np.ascontiguousarray(dataset.train.images[rows]), dataset.train.labels[rows]
    other = np.ascontiguousarray(dataset.train.images[others]), dataset.train.labels[others]
    given = corrupted(kind, rate, images, labels, other, seed)
    return Task(images, labels, given, other, len(dataset.classes))


def corrupted(
    kind: str, rate: float, images: Images, labels: Labels, other: tuple[Images, Labels], seed: int
) -> Labels:
    """`labels`, of which a share is wrong; `other` are further images, from which is known what looks like what."""
    rng = np.random.default_rng(seed)
    count, classes, given = round(rate * len(labels)), int(labels.max()) + 1, labels.copy()
    if kind == "instance":
        model = LogisticRegression(max_iter=200).fit(_flat(other[0]), other[1])
        chance = model.predict_proba(_flat(images)) ** 0.5
        chance[np.arange(len(labels)), labels] = 0.0
        weight = chance.max(1)
        chosen = rng.choice(len(labels), count, replace=False, p=weight / weight.sum())
        given[chosen] = chance[chosen].argmax(1)
        return given
    chosen = rng.choice(len(labels), count, replace=False)
    step = 1 if kind == "pair" else rng.integers(1, classes, count)
    given[chosen] = (labels[chosen] + step) % classes
    return given


def embedded(images: Images, other: tuple[Images, Labels], classes: int) -> Features:
    """What enters the last layer of a network trained on `other`, [n, 128]."""
    x, y = torch.from_numpy(other[0]), torch.from_numpy(other[1])
    settings = choose(len(x), [], {"hidden": 128, "epochs": 8, "device": "cpu"})
    network = ordinary(x, classes, settings)
    train(network, Examples(x, y, torch.arange(len(x))), config_of(settings), turn_over=False, progress=False)
    network.eval()
    found: list[torch.Tensor] = []
    head = network.network[-1]  # type: ignore[index]
    handle = head.register_forward_pre_hook(lambda module, args: found.append(args[0]))
    with torch.no_grad():
        for part in torch.split(torch.from_numpy(images), 512):
            network(part)
    handle.remove()
    return torch.cat(found).numpy()


def ordinary(inputs: torch.Tensor, classes: int, settings: Settings) -> Standardized:
    """The network of the audit with ordinary dropout in the place of turn-over dropout."""
    network = make_network(inputs, classes, settings.hidden, settings.seed)
    remove(network)
    head = network.network[-1]  # type: ignore[index]
    head.register_forward_pre_hook(lambda module, args: (F.dropout(args[0], 0.5, module.training),))
    return network


def by_audit(task: Task, data: str) -> Iterator[Callable[[], Judged]]:
    """`turnover.audit` of a folder or of embeddings, with all that the command makes but the files."""

    def judged(source: Any, labels: Labels | None, place: Callable[[str], int]) -> Judged:
        found = audit(source, labels, out=None, progress=False).labels
        places = [place(name) for name in found["name"]]
        scores = np.empty(len(places))
        scores[places] = found["suspicion"]
        listed = [number for number, is_suspect in zip(places, found["suspect"], strict=True) if is_suspect]
        return Judged(scores, listed, float(found["wrong_probability"].sum()))

    if data == "embeddings":
        features = task.features
        yield lambda: judged(features, task.given, int)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_folders(task.images, [f"{label:03d}" for label in task.given], Path(folder))
        yield lambda: judged(folder, None, lambda name: int(Path(name).stem))


def write_folders(images: Images, names: Sequence[str], root: Path) -> None:
    """Images as PNG files in folders called as their classes; a file is called by its number."""
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        path = root / name / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)


def by_cleanlab(task: Task, data: str) -> Iterator[Callable[[], Judged]]:
    """One less cleanlab's label quality, of out-of-fold probabilities."""
    from cleanlab.rank import get_label_quality_scores

    find = of_network if data == "images" else of_features
    what: Any = task.images if data == "images" else task.features
    yield lambda: Judged(
        1.0 - np.asarray(get_label_quality_scores(task.given, find(what, task.given, task.classes)), dtype=np.float64)
    )


def of_network(images: Images, labels: Labels, classes: int) -> Scores:
    """Out-of-fold probabilities of the ordinary network, trained `FOLDS` times."""
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    settings = choose(len(x), [x.shape[2]], {})
    found = np.zeros((len(x), classes))
    for inside, outside in StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(images, labels):
        rows = torch.from_numpy(inside)
        network = ordinary(x[rows], classes, settings)
        train(network, Examples(x[rows], y[rows], rows), config_of(settings), turn_over=False, progress=False)
        network.eval()
        with torch.no_grad():
            parts = [network(part).softmax(1) for part in torch.split(x[torch.from_numpy(outside)], 512)]
        found[outside] = torch.cat(parts).numpy()
    return found


def of_features(features: Features, labels: Labels, classes: int) -> Scores:
    """Out-of-fold probabilities of logistic regression."""
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-9)
    model = LogisticRegression(max_iter=200)
    return np.asarray(cross_val_predict(model, scaled, labels, cv=FOLDS, method="predict_proba"))


def by_datalab(task: Task, data: str) -> Iterator[Callable[[], Judged]]:
    """One less Datalab's label score, of features alone."""
    from cleanlab.datalab.datalab import Datalab

    features = task.features

    def judged() -> Judged:
        lab = Datalab({"label": task.given}, label_name="label", verbosity=0)
        lab.find_issues(features=features, issue_types={"label": {}})
        return Judged(1.0 - lab.get_issues("label")["label_score"].to_numpy(np.float64))

    yield judged


METHODS: dict[str, dict[str, Callable[[Task, str], Iterator[Callable[[], Judged]]]]] = {
    "images": {"audit": by_audit, "cleanlab": by_cleanlab},
    "embeddings": {"audit": by_audit, "cleanlab": by_cleanlab, "Datalab": by_datalab},
}


def measured(task: Task, ask: Callable[[], Judged]) -> dict[str, Any]:
    """The figures of one method."""
    wall, processor = time.perf_counter(), time.process_time()
    judged = ask()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    wrong, scores = task.wrong, judged.scores
    top = np.argsort(-scores, kind="stable")[: wrong.sum()]
    found = {
        "wrong": int(wrong.sum()),
        "auroc": roc_auc_score(wrong, scores),
        "average_precision": average_precision_score(wrong, scores),
        "precision_at_k": wrong[top].mean(),
        "seconds": wall,
        "processor_seconds": processor,
    }
    if judged.listed is not None:
        listed = judged.listed
        found |= {
            "expected_wrong": judged.expected,
            "listed": len(listed),
            "listed_right": 1.0 - wrong[listed].mean() if listed else np.nan,
        }
    return found


def show(table: pd.DataFrame) -> str:
    """The rows as a table of Markdown, those of one task together."""
    lines = [
        "| data | wrong labels | method | AUROC | average precision | precision at k | seconds | counted "
        "| listed at 10 % | of them right |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    together = table.assign(other=table["method"] != "audit").sort_values(
        [*KEYS[:-1], "other", "method"], kind="stable"
    )
    for row in together.to_dict("records"):
        first = row["method"] == "audit"
        task = f"{row['set']}, {row['examples']:,} {row['data']}" if first else ""
        wrong = f"{row['wrong']:,.0f}, {row['kind']}" if first else ""
        figures = " | ".join(f"{row[name]:.3f}" for name in ("auroc", "average_precision", "precision_at_k"))
        right = "–" if pd.isna(row["listed_right"]) else f"{100 * row['listed_right']:.0f} %"
        found = f"{row['expected_wrong']:,.0f} | {row['listed']:,.0f} | {right}" if first else "| |"
        lines.append(f"| {task} | {wrong} | {row['method']} | {figures} | {row['processor_seconds']:.1f} | {found} |")
    return "\n".join(lines)


def _flat(images: Images) -> np.ndarray[Any, Any]:
    return images.reshape(len(images), -1) / 255.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--sets", nargs="+", default=["fashion-mnist", "digits"])
    parser.add_argument("--data", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.05, 0.2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of every method; more than one makes seconds vary")
    parser.add_argument(
        "--out", type=Path, default=KEPT, help="the csv file of all rows; those in it are not run again"
    )
    parser.add_argument("--show", action="store_true", help="only print the rows as a table")
    options = parser.parse_args()
    table = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=KEYS)
    if options.show:
        print(show(table))
        return
    torch.set_num_threads(options.threads)
    with threadpool_limits(options.threads), tempfile.TemporaryDirectory() as place:
        for name in options.sets:
            dataset = load(fetch(name, Path(place) / name, local=local_files()))
            for kind in options.kinds:
                for rate in options.rates:
                    table = _rows(dataset, (kind, rate), options, table)


def _rows(dataset: Dataset, noise: tuple[str, float], options: argparse.Namespace, table: pd.DataFrame) -> pd.DataFrame:
    """`table` with the rows of all methods on one task; each is written at once."""
    task = make_task(dataset, options.examples, *noise, options.seed)
    for data in options.data:
        for method, prepare in METHODS[data].items():
            keys = (dataset.name, len(task.labels), *noise, options.seed, data, method)
            if (table[KEYS] == list(keys)).all(axis=1).any():
                continue
            for ask in prepare(task, data):
                row = dict(zip(KEYS, keys, strict=True)) | measured(task, ask)
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
            options.out.parent.mkdir(parents=True, exist_ok=True)
            beside = options.out.with_suffix(".part")
            table.round(5).to_csv(beside, index=False, lineterminator="\n")
            beside.replace(options.out)
            print(pd.DataFrame([row]).round(4).to_string(index=False), flush=True)
    return table


if __name__ == "__main__":
    main()
