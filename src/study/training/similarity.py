"""How alike the gradients of single examples are: cosine similarity, through training.

Two examples whose gradients point the same way are learned together: a step for one is a step for the other. Each
example's gradient is that of its own exposed sub-network (the step it really takes under turn-over dropout), or of the
full network.

They are compared in linear layers, where one backward pass is enough and no per-example gradient is ever held: the
gradient of a linear layer is the outer product of what comes out (its derivative, d) and what goes in (a), so that the
inner product of two of them is ``(d_i . d_j)(a_i . a_j)`` (the "ghost" trick, Goodfellow 2015, arXiv 1510.01799).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from turnover.batches.examples import Examples
from turnover.batches.passes import evaluating
from turnover.masking.probing import probe
from turnover.masking.subnetworks import subnetwork
from turnover.training.recorders import EpochRecorder

KINDS = ("exposed", "full")


def last_linear_layers(model: nn.Module, count: int) -> list[str]:
    """Names of the last `count` linear layers (fewer if there are no more), in their order in the network.

    Raises:
        ValueError: there is none.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ValueError("the model has no torch.nn.Linear layer: gradients are compared in linear layers only")
    return names[-count:]


def linear_gradient_products(
    model: nn.Module, x: Tensor, y: Tensor, ids: Tensor | None, layers: Sequence[str], *, block: int = 64
) -> Tensor:
    """Inner products of the per-example gradients with respect to weights and biases of some linear layers.

    Args:
        model: a classifier in evaluation mode; with turn-over dropout if `ids` are given.
        x: inputs [n, ...].
        y: labels [n].
        ids: example ids [n]: row r's gradient is that of the sub-network of ``ids[r]``. None: of the full network.
        layers: names of linear modules. A layer may run more than once, and may see tokens [n, tokens, features].
        block: examples whose products with all others are made at once: with t tokens an example the scratch memory
            is ``block * n * t^2`` numbers.

    Returns:
        float32 [n, n].

    Raises:
        ValueError: a layer did not run, or its batch is not dimension 0.
    """
    caught: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}

    def catch(name: str) -> object:
        return lambda module, args, output: caught[name].append((args[0], output))

    if ids is not None:
        probe(model, x)  # now, since its forward passes would be caught as well
    handles = [model.get_submodule(name).register_forward_hook(catch(name)) for name in layers]  # type: ignore[arg-type]
    try:
        with torch.enable_grad(), subnetwork(model, ids) if ids is not None else nullcontext():
            loss = F.cross_entropy(model(x).float(), y, reduction="sum")
            for name, runs in caught.items():
                if not runs or any(len(a) != len(x) for a, _ in runs):
                    raise ValueError(f"layer {name!r} did not run with the batch in dimension 0: name another layer")
            outputs = [output for runs in caught.values() for _, output in runs]
            slopes = iter(torch.autograd.grad(loss, outputs))
    finally:
        for handle in handles:
            handle.remove()
    products = torch.zeros(len(x), len(x), device=x.device)
    for name, runs in caught.items():
        # Runs of one layer add up to one gradient, as tokens do.
        inputs = torch.cat([_tokens(a.detach()) for a, _ in runs], 1)
        deltas = torch.cat([_tokens(next(slopes)) for _ in runs], 1)
        if getattr(model.get_submodule(name), "bias", None) is not None:
            inputs = torch.cat([inputs, inputs.new_ones(*inputs.shape[:2], 1)], 2)
        _add_products(products, inputs, deltas, block)
    return products


def cosines(products: Tensor) -> Tensor:
    """Cosine similarity [n, n] from inner products [n, n]; NaN in row and column of an example without any gradient."""
    norms = products.diagonal().clamp(min=0).sqrt()
    scale = torch.where(norms > 0, 1.0 / norms, torch.nan)
    return (products * scale[:, None] * scale).clamp(-1.0, 1.0)


class GradientSimilarity(EpochRecorder):
    """Records the cosine similarities of a sample's gradients at chosen epochs.

    Args:
        sample: the examples compared, a few hundred: the cost grows with their square.
        epochs: when; epoch 0 is the untrained network.
        layers: how many of the last linear layers the gradients are taken in.
    """

    def __init__(self, sample: Examples, epochs: Sequence[int], layers: int = 2) -> None:
        super().__init__(epochs, "gradients-")
        self.sample = sample
        self.layers = layers

    def look(self, model: nn.Module) -> dict[str, Tensor]:
        """The cosines of all pairs i < j row by row, float16 [n(n-1)/2], of each of `KINDS`."""
        layers = last_linear_layers(model, self.layers)
        upper = torch.triu_indices(len(self.sample), len(self.sample), 1)
        found = {}
        with evaluating(model):
            for kind in KINDS:
                ids = self.sample.ids if kind == "exposed" else None
                products = linear_gradient_products(model, self.sample.images, self.sample.labels, ids, layers)
                found[kind] = cosines(products).cpu()[upper[0], upper[1]].half()
        return found

    def pairs(self, kind: str) -> Tensor:
        """float16 [recorded epochs, n(n-1)/2]: the pairs i < j row by row, of the `kind` exposed or full."""
        return torch.stack([cosine[kind] for _, cosine in self.recorded()])


def doubling(epochs: int) -> list[int]:
    """Epochs 0, 1, 2, 4, 8 and so on, and the last."""
    return sorted({0, epochs, *(1 << power for power in range(epochs.bit_length()) if 1 << power <= epochs)})


def _tokens(x: Tensor) -> Tensor:
    """[n, ..., features] as float32 [n, tokens, features]."""
    return x.float().flatten(1, -2) if x.dim() > 2 else x.float()[:, None]


def _add_products(total: Tensor, inputs: Tensor, deltas: Tensor, block: int) -> None:
    """Add ``sum over tokens s, t of (d_is . d_jt)(a_is . a_jt)`` to total [n, n]; both are [n, tokens, features]."""
    count, tokens = inputs.shape[:2]
    flat_inputs, flat_deltas = inputs.flatten(0, 1), deltas.flatten(0, 1)
    for start in range(0, count, block):
        rows = slice(start * tokens, (start + block) * tokens)
        both = (flat_inputs[rows] @ flat_inputs.T) * (flat_deltas[rows] @ flat_deltas.T)
        total[start : start + block] += both.view(-1, tokens, count, tokens).sum((1, 3))
