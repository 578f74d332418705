"""Influence functions on all layers, the curvature by EK-FAC, through kronfluence (needs the extra ``compare``).

Grosse et al. (2023, arXiv 2308.03296): the Gauss-Newton matrix of a layer as a Kronecker product of its inputs' and its
output gradients' second moments, whose eigenvalues are corrected (George et al. 2018, arXiv 1806.03884). It knows
linear and convolutional layers; the parameters of all others count as fixed.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from study.peers.inputs import TrainedNetwork, plain
from turnover.batches.examples import Examples

# So many gradients of targets and of training examples are held at once, each as large as the network.
TARGETS_AT_ONCE, BATCH = 100, 100


def ekfac(
    networks: Sequence[TrainedNetwork], train: Examples, targets: Examples, *, damping: float | None = None
) -> Tensor:
    """Influence function of the loss on every linear and convolutional layer of the first network.

    ``grad L(t)' (G + damping)^-1 grad L(i)``, summed over layers; G is the Gauss-Newton matrix of the mean training
    loss by EK-FAC, with labels drawn from the network's own predictions.

    Args:
        networks: the first one is used, as a copy.
        train: examples.
        targets: examples.
        damping: added to the eigenvalues; None: a tenth of their mean in each layer, as the paper has it.

    Returns:
        float32 [train, target], positive where i helps (not divided by the number of examples).
    """
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import ScoreArguments
    from kronfluence.task import Task

    class Classification(Task):  # type: ignore[misc]
        """The sum of losses; what kronfluence calls a measurement is the targets' loss."""

        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            x, y = batch
            logits = model(x)
            if sample:
                y = torch.multinomial(logits.detach().softmax(1), 1)[:, 0]
            return F.cross_entropy(logits, y, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

        def get_influence_tracked_modules(self) -> list[str]:
            return tracked

    model, x = plain(copy.deepcopy(networks[0].model).eval(), train.images)
    # An attention's own output layer is one by name alone: its weight is used without calling it.
    attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    uncalled = {id(module.out_proj) for module in attentions}
    tracked = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and id(module) not in uncalled
    ]
    _, x_target = plain(networks[0].model, targets.images)
    task = Classification()
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # names of torch that kronfluence 1.0 knows by their old place
        torch.manual_seed(0)
        prepared = prepare_model(model, task)
        analyzer = Analyzer("ekfac", prepared, task, cpu=True, disable_tqdm=True, output_dir=folder)
        data = TensorDataset(x, train.labels)
        analyzer.fit_all_factors("factors", data, per_device_batch_size=min(BATCH, len(x)))
        analyzer.compute_pairwise_scores(
            "scores",
            "factors",
            TensorDataset(x_target, targets.labels),
            data,
            per_device_query_batch_size=min(TARGETS_AT_ONCE, len(x_target)),
            per_device_train_batch_size=min(BATCH, len(x)),
            score_args=ScoreArguments(damping_factor=damping),
        )
        scores: Tensor = analyzer.load_pairwise_scores("scores")["all_modules"]
    return scores.detach().T.float().contiguous()
