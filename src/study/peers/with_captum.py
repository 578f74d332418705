"""TracIn through captum (needs the extra ``compare``).

Pruthi, Liu, Kale, Sundararajan (2020, arXiv 2002.08484): the influence of i on t is
``sum over checkpoints k of lr_k * grad L_k(i) . grad L_k(t)``, the drop of t's loss that steps on i brought, to first
order. `TracInCPFast` takes the gradients of the last layer's weights alone (without its bias):
``sum_k lr_k (h_i . h_t) (dL_i/dz . dL_t/dz)``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from study.peers.inputs import TrainedNetwork
from turnover.masking.insertion import head
from turnover.reading.examples import Examples


def tracin(networks: Sequence[TrainedNetwork], train: Examples, targets: Examples) -> Tensor:
    """Influence [train, target] by TracInCPFast over the checkpoints of the first network."""
    scores: Tensor = _method(networks[0], train).influence((targets.images, targets.labels))
    return scores.detach().T.contiguous()


def tracin_self(networks: Sequence[TrainedNetwork], train: Examples) -> Tensor:
    """Self-influence [train] by TracInCPFast: the influence of i on itself, never negative."""
    scores: Tensor = _method(networks[0], train).self_influence()
    return scores.detach()


def _method(network: TrainedNetwork, train: Examples) -> Any:
    from captum.influence import TracInCPFast

    if not network.checkpoints or len(network.checkpoints) != len(network.learning_rates):
        raise ValueError(
            f"{len(network.checkpoints)} checkpoints and {len(network.learning_rates)} learning rates: TracIn needs as "
            "many of both, at least one"
        )
    model = copy.deepcopy(network.model).eval()  # its weights will be those of one checkpoint after the other

    def load(model: nn.Module, number: int) -> float:
        model.load_state_dict(network.checkpoints[number])
        return network.learning_rates[number]

    return TracInCPFast(
        model,
        head(model),
        # All examples in one batch: captum goes through the targets again for every batch.
        DataLoader(TensorDataset(train.images, train.labels), batch_size=len(train)),
        checkpoints=iter(range(len(network.checkpoints))),
        checkpoints_load_func=load,
        loss_fn=nn.CrossEntropyLoss(reduction="sum"),
    )
