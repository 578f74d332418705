"""Finding wrong labels: `turnover audit` beside cleanlab, on the same images and embeddings, network and machine.

Images lie as PNG files in class folders, embeddings are what a network trained on other images holds of them. Labels
are made wrong in three ways: symmetric (any other class), pair (the next class), instance (a difficult example gets the
class that it is likely taken for). cleanlab gets out-of-fold probabilities: of images those of the same network, five
times trained without masks; of embeddings those of logistic regression. Where the package `datasets` is installed, its
Datalab also judges the embeddings alone.

    python benchmarks/audit.py                       # 10,000 images of Fashion-MNIST, and digits: an hour on 2 cores
    python benchmarks/audit.py --examples 2000 --rates 0.05 --sets fashion-mnist
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
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

Images = np.ndarray[Any, np.dtype[np.uint8]]
Labels = np.ndarray[Any, np.dtype[np.int64]]
Scores = np.ndarray[Any, np.dtype[np.float64]]


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


def embedded(images: Images, other: tuple[Images, Labels], classes: int) -> np.ndarray[Any, np.dtype[np.float32]]:
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


def by_audit(data: Any, labels: Labels | None, order: Callable[[str], int], count: int) -> Scores:
    """Suspicion of every example, by its place."""
    found = audit(data, labels, out=None, progress=False).labels
    scores = np.empty(count)
    scores[[order(name) for name in found["name"]]] = found["suspicion"]
    LISTED.append(([order(name) for name in found.loc[found["suspect"], "name"]], found["wrong_probability"].sum()))
    return scores


LISTED: list[tuple[list[int], float]] = []  # of the last audit: its suspects, and how many it takes to be wrong


def by_cleanlab(probabilities: Callable[[], Scores], labels: Labels) -> Scores:
    """One less cleanlab's label quality."""
    from cleanlab.rank import get_label_quality_scores

    return 1.0 - np.asarray(get_label_quality_scores(labels, probabilities()))


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


def of_features(features: np.ndarray[Any, Any], labels: Labels) -> Scores:
    """Out-of-fold probabilities of logistic regression."""
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-9)
    model = LogisticRegression(max_iter=200)
    return np.asarray(cross_val_predict(model, scaled, labels, cv=FOLDS, method="predict_proba"))


def by_datalab(features: np.ndarray[Any, Any], labels: Labels) -> Scores | None:
    """One less Datalab's label score; None where it cannot be had."""
    try:
        from cleanlab.datalab.datalab import Datalab  # which needs the package `datasets`
    except ImportError:
        return None
    lab = Datalab({"label": labels}, label_name="label", verbosity=0)
    lab.find_issues(features=features, issue_types={"label": {}})
    return 1.0 - lab.get_issues("label")["label_score"].to_numpy()


def row(name: str, wrong: np.ndarray[Any, Any], ask: Callable[[], Scores | None]) -> dict[str, Any] | None:
    """The figures of one method."""
    wall, processor = time.perf_counter(), time.process_time()
    scores = ask()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    if scores is None:
        return None
    top = np.argsort(-scores, kind="stable")[: wrong.sum()]
    found: dict[str, Any] = {
        "method": name,
        "AUROC": roc_auc_score(wrong, scores),
        "average precision": average_precision_score(wrong, scores),
        "precision at k": wrong[top].mean(),
        "seconds": wall,
        "processor": processor,
    }
    if LISTED:
        listed, expected = LISTED.pop()
        found |= {"suspects": len(listed), "right": 1.0 - wrong[listed].mean() if listed else np.nan, "wrong": expected}
    return found


def compare(dataset: Dataset, count: int, kind: str, rate: float, seed: int) -> list[dict[str, Any]]:
    """All methods on images and on embeddings of them."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(dataset.train))
    count = min(count, len(order) * 2 // 3)
    rows, others = np.sort(order[:count]), np.sort(order[count : count + EMBEDDED])
    images, labels = np.ascontiguousarray(dataset.train.images[rows]), dataset.train.labels[rows]
    other = np.ascontiguousarray(dataset.train.images[others]), dataset.train.labels[others]
    given = corrupted(kind, rate, images, labels, other, seed)
    wrong, classes = given != labels, len(dataset.classes)
    features = embedded(images, other, classes)
    with tempfile.TemporaryDirectory() as place:
        for number, (image, label) in enumerate(zip(images, given, strict=True)):
            path = Path(place) / f"{label:03d}" / f"{number:06d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(path)
        found = {
            "images": [
                row("audit", wrong, lambda: by_audit(place, None, lambda name: int(Path(name).stem), count)),
                row("cleanlab", wrong, lambda: by_cleanlab(lambda: of_network(images, given, classes), given)),
            ],
            "embeddings": [
                row("audit", wrong, lambda: by_audit(features, given, int, count)),
                row("cleanlab", wrong, lambda: by_cleanlab(lambda: of_features(features, given), given)),
                row("Datalab", wrong, lambda: by_datalab(features, given)),
            ],
        }
    about = {"set": dataset.name, "kind": kind, "rate": rate, "examples": count}
    return [{**about, "data": data, **line} for data, lines in found.items() for line in lines if line is not None]


def _flat(images: Images) -> np.ndarray[Any, Any]:
    return images.reshape(len(images), -1) / 255.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--sets", nargs="+", default=["fashion-mnist", "digits"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.05, 0.2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a csv file for the table")
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for name in options.sets:
            dataset = load(fetch(name, Path(place) / name, local=local_files()))
            for kind in options.kinds:
                for rate in options.rates:
                    new = compare(dataset, options.examples, kind, rate, options.seed)
                    lines += new
                    print(pd.DataFrame(new).round(4).to_string(index=False), flush=True)
    if options.out is not None:
        pd.DataFrame(lines).round(5).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
