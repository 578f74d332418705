"""Does looking deeper help influence? Masks and left-out residuals in more layers, peers on all weights.

What the table of `validate` leaves out, because it costs much or earns nothing, judged by the same ground truth.
No default follows from it. Rows are of one network each, every seed by itself:

- left-out residuals in the layer before the head, which is the estimate of the library, and in the layers before it:
  the same Kronecker-factored influence function with the residual sent back to each of them, blocks added up;
- the same estimate after training with masks in other places;
- TracIn and TRAK (dattri) on all parameters instead of the head's.

Every row is kept as soon as it is measured; the same command goes on where it stopped.

    dvc repro validation_data
    python benchmarks/deeper.py                      # into docs/deeper.csv
    python benchmarks/deeper.py --show               # the table of docs/validation.md, from docs/deeper.csv
    python benchmarks/deeper.py --sets validation_digits --seeds 1 --out build/deeper.csv
"""

from __future__ import annotations

import argparse
import copy
import io
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext, redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from study.artefacts.files import write_csv
from study.artefacts.kept import KeptResults
from study.commands.judge import load_problem
from study.peers.inputs import TrainedNetwork, plain
from study.peers.left_out import left_out
from study.retraining.lds import lds
from study.validation.runs import ordinary_run, trained_network
from study.validation.settings import Problem
from turnover import insert
from turnover.attribution.left_out import GRADIENT_RIDGE, INNER_RIDGE
from turnover.masking.insertion import head
from turnover.masking.layer import TurnOverDropout, masked_layers
from turnover.reading.features import RIDGE, features_of, spectrum
from turnover.reading.votes import likeness, same_among, votes
from turnover.training.loop import train

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "deeper.csv"
SETS = ("validation", "validation_digits", "validation_sequences")
DAMPING = 0.1  # of the eigenvalue-corrected form, in mean eigenvalues, as in the table's EK-FAC
_BATCH = 100  # examples whose gradients are made at once
_COMPARED = 250  # examples whose gradients, of all parameters, are held twice


Row = tuple[str, Tensor, float]  # method, influence [train, target], seconds after training


class HalfShared(TurnOverDropout):
    """The second half of the units is masked, the first is everybody's."""

    def factors(self, selection: Any, x: Tensor, dim: int) -> Tensor:
        factors = super().factors(selection, x, dim).clone()
        factors.narrow(-1, 0, factors.shape[-1] // 2).fill_(1.0)
        return factors


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The linear and convolutional layers before the head, but for those of an attention."""
    of_head = head(model)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module is not of_head and "attn" not in name
    }


def gradients(model: nn.Module, layer: nn.Module, images: Tensor, residual: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What enters a layer and what reaches its output, where the gradient of the logits is `residual`.

    Yields:
        Of some examples [some, places, inputs] and [some, places, outputs]: pixels of a convolution, tokens, or one.
    """
    for x, cotangent in zip(torch.split(images, _BATCH), torch.split(residual, _BATCH), strict=True):
        caught: dict[str, Tensor] = {}
        handle = layer.register_forward_hook(partial(_catch, caught))
        logits = model(x)
        handle.remove()
        entering, leaving = caught["entering"], caught["leaving"]
        (gradient,) = torch.autograd.grad((logits * cotangent).sum(), leaving)
        if isinstance(layer, nn.Conv2d):
            assert not isinstance(layer.padding, str)
            entering = F.unfold(entering, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
            yield entering.transpose(1, 2), gradient.flatten(2).transpose(1, 2)
        else:
            yield entering.reshape(len(x), -1, entering.shape[-1]), gradient.reshape(len(x), -1, gradient.shape[-1])


def _catch(caught: dict[str, Tensor], module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
    caught.update(entering=given[0].detach(), leaving=out)


def block(problem: Problem, model: nn.Module, layer: nn.Module, *, corrected: bool) -> Tensor:
    """Left-out influence [train, target] by the weights of one layer.

    Args:
        corrected: divide by the second moments of the gradients themselves along the factors' directions (EK-FAC), in
            place of the products of the factors' eigenvalues.
    """
    residual_train, residual_targets = residuals(problem, model)
    images, count = problem.train.images, len(problem.train)
    inputs = outputs = torch.zeros(())
    for entering, gradient in gradients(model, layer, images, residual_train):
        places = entering.shape[1]
        entering, gradient = entering.flatten(0, 1).double(), gradient.flatten(0, 1).double()
        # At many places inputs add up and gradients are averaged: so the blocks of all layers have one scale (Grosse &
        # Martens 2016, arXiv 1602.01407).
        inputs, outputs = inputs + entering.T @ entering, outputs + gradient.T @ gradient / places
    to_in, to_out = (
        _directions(outer, None if corrected else ridge, most)
        for outer, ridge, most in ((inputs, INNER_RIDGE, 512), (outputs, GRADIENT_RIDGE, 256))
    )

    def turned(images: Tensor, residual: Tensor) -> Iterator[Tensor]:
        for entering, gradient in gradients(model, layer, images, residual):
            yield torch.einsum("npo,npi->noi", gradient @ to_out, entering @ to_in).flatten(1)

    of_targets = torch.cat(list(turned(problem.targets.images, residual_targets)))
    if corrected:
        moments = torch.stack([part.square().sum(0) for part in turned(images, residual_train)]).sum(0) / count
        of_targets /= moments + DAMPING * moments.mean()
    return torch.cat([part @ of_targets.T for part in turned(images, residual_train)])


def _directions(outer: Tensor, ridge: float | None, most: int) -> Tensor:
    """Strongest directions of a sum of outer products, a column each; with a ridge divided by their strength."""
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(outer)
    if ridge is not None:
        vectors = vectors * (values.clamp(min=0.0) + ridge * values.sum()).rsqrt()
    return vectors[:, -most:].float()


def residuals(problem: Problem, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Labels less the shares of the neighbours, of training examples and targets, [n, classes]."""
    labels, classes = problem.train.labels, len(problem.scenario.classes)
    features, of_targets = (features_of(model, of.images) for of in (problem.train, problem.targets))
    found = spectrum([features])
    reference, unit = (F.normalize(found.whitened(part, RIDGE, 256), dim=1) for part in (features, of_targets))
    places = torch.arange(len(labels))
    shares = votes(likeness(reference, reference, itself=same_among(places, places)), labels, classes)
    shares_of_targets = votes(likeness(unit, reference), labels, classes)
    return F.one_hot(labels, classes) - shares, F.one_hot(problem.targets.labels, classes) - shares_of_targets


def masked(problem: Problem, seed: int, after: str, keep: float, *, shared: bool = False) -> nn.Module:
    """A trained network with masks; `after` as for `insert`."""
    model = insert(problem.network(seed), after=after, keep=keep, seed=seed)
    with ExitStack() as stack:
        if shared:
            for layer in masked_layers(model):
                layer.__class__ = HalfShared
            # Refused, rightly: through shared units an example reaches its flipped network. Here only features count.
            stack.enter_context(patch("turnover.training.loop.probe"))
            stack.enter_context(patch("turnover.masking.subnetworks.probing", lambda *given: nullcontext()))
        train(model, problem.train, problem.config(seed), progress=False)
    return model.eval()


def deeper(problem: Problem, model: nn.Module, of: str) -> Iterator[Row]:
    """Left-out residuals in every layer before the head, and in all of them."""
    for form, corrected in (("K-FAC", False), ("EK-FAC", True)):
        total, clock = torch.zeros(()), time.perf_counter()
        for name, layer in reversed(layers_of(model).items()):
            found = block(problem, model, layer, corrected=corrected)
            if not corrected:
                yield f"{of}: left-out, {form} of {name}", found, time.perf_counter() - clock
            total = total + found
        yield f"{of}: left-out, {form} of all layers", total, time.perf_counter() - clock


def elsewhere(problem: Problem, seed: int) -> Iterator[Row]:
    """The library's left-out influence after training with masks in other places."""
    for method, after, keep, shared in (
        ("masks before the head", "head", 0.5, False),
        ("masks after all layers", "all", 0.5, False),
        ("masks after all layers, keep .9", "all", 0.9, False),
        ("masks of half the units, half shared", "head", 0.5, True),
    ):
        model = masked(problem, seed, after, keep, shared=shared)
        clock = time.perf_counter()
        found = left_out(model, problem.train, problem.targets)
        yield f"{method}: left-out", found, time.perf_counter() - clock
        if (after, shared) == ("head", False):
            yield from deeper(problem, model, method)


def on_all_parameters(problem: Problem, network: TrainedNetwork) -> Iterator[Row]:
    """TRAK and TracIn of dattri without the restriction to the head."""
    from dattri.algorithm.tracin import TracInAttributor  # late: the rest does without the extra `compare`
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask

    model, x = plain(copy.deepcopy(network.model).eval(), problem.train.images)
    _, x_targets = plain(network.model, problem.targets.images)
    loader = DataLoader(TensorDataset(x, problem.train.labels), _COMPARED)
    goals = DataLoader(TensorDataset(x_targets, problem.targets.labels), _COMPARED)

    def loss(values: Any, data: tuple[Tensor, Tensor]) -> Tensor:
        x, y = data
        return F.cross_entropy(functional_call(model, dict(values), (x.unsqueeze(0),)), y.unsqueeze(0))

    def margin(values: Any, data: tuple[Tensor, Tensor]) -> Tensor:
        x, y = data  # log(p / (1 - p)) without the 1 - p that rounds to 0
        logits: Tensor = functional_call(model, dict(values), (x.unsqueeze(0),)).squeeze(0)
        own = torch.arange(len(logits)) == y
        return logits.masked_fill(~own, 0.0).sum() - logits.masked_fill(own, -torch.inf).logsumexp(0)

    whole = copy.deepcopy(network.model)
    states = []
    for state in network.checkpoints:
        whole.load_state_dict(state)
        states.append(copy.deepcopy(plain(whole, problem.train.images[:0])[0].state_dict()))
    projection = {
        "proj_dim": min(512, len(problem.train) // 3),
        "proj_max_batch_size": 32,
        "proj_seed": 0,
        "device": "cpu",
    }
    for ridge in (0.0, 0.1, 10.0):
        clock = time.perf_counter()
        task = AttributionTask(loss_func=margin, model=model, checkpoints=[model.state_dict()])
        attributor = TRAKAttributor(
            task, lambda values, data: margin(values, data).sigmoid(), projector_kwargs=projection, regularization=ridge
        )
        with redirect_stderr(io.StringIO()):  # progress bars
            attributor.cache(loader)
            found = attributor.attribute(goals)
        yield f"TRAK (dattri all parameters, ridge {ridge:g})", found, time.perf_counter() - clock
    clock, total = time.perf_counter(), torch.zeros(())
    for state, rate in zip(states, network.learning_rates, strict=True):
        model.load_state_dict(state)
        task = AttributionTask(loss_func=loss, model=model, checkpoints=[state])
        attributor = TracInAttributor(task, torch.tensor([rate]), normalized_grad=False, projector_kwargs={})
        attributor.projector_kwargs = None  # None in the constructor means the default projection, not none
        with redirect_stderr(io.StringIO()):
            total = total + attributor.attribute(loader, goals).detach()
    yield "TracIn (dattri all parameters)", total, time.perf_counter() - clock


def rows_of(problem: Problem, seed: int, kept: KeptResults) -> Iterator[Row]:
    """All rows of one seed."""
    yield from elsewhere(problem, seed)
    ordinary = trained_network(problem, kept.get(f"ordinary-{seed}", partial(ordinary_run, problem, seed)))
    clock = time.perf_counter()
    found = left_out(ordinary.model, problem.train, problem.targets)
    yield "no masks: left-out", found, time.perf_counter() - clock
    yield from deeper(problem, ordinary.model, "no masks")
    if not seed:  # once: minutes for a network
        yield from on_all_parameters(problem, ordinary)


def judged(problem: Problem, rows: Iterable[Row], **about: Any) -> pd.DataFrame:
    """The agreement of each row with both kinds of judges."""
    found = []
    for method, influence, seconds in rows:
        scores = influence.numpy().astype(np.float64)
        figures = {
            kind: lds(scores, truth.inside, problem.goodness_of(truth)).mean()
            for kind, truth in (("lds", problem.truth), ("fitted_lds", problem.fitted))
        }
        found.append({**about, "method": method, **figures, "seconds": round(seconds, 1)})
        print(found[-1], flush=True)
    return pd.DataFrame(found)


def measured(name: str, seeds: int, folder: Path, out: Path) -> None:
    """Measure a validation set, unless a seed of it stands in `out`."""
    problem = load_problem(ROOT, name)
    for seed in range(seeds):
        table = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=["set", "seed"])
        if ((table["set"] == name) & (table["seed"] == seed)).any():
            continue
        found = judged(problem, rows_of(problem, seed, KeptResults(folder / name)), set=name, seed=seed)
        write_csv(out, pd.concat([table, found], ignore_index=True), digits=4)


def show(table: pd.DataFrame) -> str:
    """Means over the seeds as a table of Markdown, the sets beside each other; single layers stand in the csv alone."""
    table = table[~table["method"].str.contains(r"FAC of network\.")]
    names = list(dict.fromkeys(table["set"]))
    lines = [
        "| one network | " + " | ".join(f"{name}: LDS | fitted judges | seconds" for name in names) + " |",
        "|---" + "|--:" * (3 * len(names)) + "|",
    ]
    figures = table.groupby(["method", "set"], sort=False)[["lds", "fitted_lds", "seconds"]].mean()
    for method in dict.fromkeys(table["method"]):
        cells = []
        for name in names:
            if (method, name) in figures.index:
                row = figures.loc[(method, name)]
                cells += [f"{row['lds']:.3f}", f"{row['fitted_lds']:.3f}", f"{row['seconds']:.1f}"]
            else:
                cells += ["", "", ""]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=ROOT / "build/deeper", help="where networks are kept")
    parser.add_argument("--out", type=Path, default=KEPT)
    parser.add_argument("--show", action="store_true", help="only print the table")
    options = parser.parse_args()
    if not options.show:
        torch.set_num_threads(options.threads)
        for name in options.sets:
            measured(name, options.seeds, options.folder, options.out)
    print(show(pd.read_csv(options.out)))


if __name__ == "__main__":
    main()
