"""What becomes of a network: masks in, a step of training, scores, masks out; all held against masks by hand."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.unit.turnover.many_models.networks import CLASSES, Model
from turnover import InstanceMasks, insert, memorization, remove, replace_batch_norm, subnetwork
from turnover.masking.calling import call, logits_of
from turnover.masking.layer import masked_layers, masking_hooks

KEEP, SEED = 0.5, 3
IDS = torch.tensor([5, 2**40, 11, 12, 13, 14])
LABELS = torch.arange(len(IDS)) % CLASSES


class Outcome(NamedTuple):
    """What came of a network.

    Args:
        norms: BatchNorm layers replaced.
        refusal: what the library said; None where it worked at once.
        cure: what of the refusal's advice then worked, as code; "" where it has none.
        masked, units: where the masks are in the end, and how many units they have.
    """

    norms: int
    refusal: str | None
    cure: str
    masked: str
    units: int


def tried(model: Model) -> Outcome:
    """Insert, train a step, score, remove; where that is refused, the same as the refusal advises.

    Raises:
        AssertionError: a number is not what masks multiplied by hand give.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _built(model)
        norms = len(_norms(network))
        try:
            masked, units = _checked(replace_batch_norm(network), model.inputs, "head")
            return Outcome(norms, None, "", masked, units)
        except (ValueError, TypeError) as error:
            refusal = str(error)
        advised = re.search(r"after=\[(['\"])(.+?)\1\]", refusal)
        if place := model.place or (advised and advised[2]):
            masked, units = _checked(replace_batch_norm(_built(model)), model.inputs, [place])
            return Outcome(norms, refusal, f"after=[{place!r}]", masked, units)
        if "freeze it" in refusal:
            masked, units = _checked(_built(model), model.inputs, "head")
            return Outcome(0, refusal, "BatchNorm frozen with .eval()", masked, units)
        return Outcome(norms, refusal, "", "", 0)


def _built(model: Model) -> nn.Module:
    torch.manual_seed(0)
    network = model.build().eval()
    for parameter in network.parameters():  # heads and branches that start at zero would hide everything
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return network


def _norms(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def _checked(network: nn.Module, inputs: Any, after: str | list[str]) -> tuple[str, int]:
    """Name of the masked module, and its units. BatchNorm that is left is kept in evaluation mode."""
    keys, plain = list(network.state_dict()), _logits(network, inputs)
    insert(network, after=after, keep=KEEP, seed=SEED)
    network.train()
    for norm in _norms(network):
        norm.eval()
    with subnetwork(network, IDS):
        logits = logits_of(call(network, inputs))
    loss = F.cross_entropy(logits, LABELS) if logits.dim() == 2 else logits.square().mean()
    ((_, hook),) = masking_hooks(network)
    place, before = network.get_submodule(hook.name), after == "head"
    network.eval()
    assert torch.equal(_logits(network, inputs), plain), "the full network has changed"
    loss.backward()
    torch.optim.SGD(network.parameters(), lr=1e-3).step()
    scores = memorization(network, inputs, LABELS, IDS, neighbours=False)
    units = next(iter(hook.layer._masks))
    masks = InstanceMasks(units, KEEP, seed=SEED)
    if before:
        hidden = ~masks(IDS).any(0)
        assert hidden.any() and (place.weight.grad[:, hidden] == 0).all(), "units that no example keeps were trained"

    trained = _logits(network, inputs)
    assert torch.equal(_logits(remove(network), inputs), trained) and list(network.state_dict()) == keys
    assert not masked_layers(network)
    losses = {}
    for flipped in (False, True):
        with _multiplied(place, masks(IDS, flipped=flipped) / (1 - KEEP if flipped else KEEP), before):
            losses[flipped] = F.cross_entropy(_logits(network, inputs), LABELS, reduction="none")
    with _multiplied(place, torch.zeros(len(IDS), units), before):
        dark = _logits(network, inputs)
    spread = trained.amax(0) - trained.amin(0)
    assert (dark.amax(0) - dark.amin(0)).max() < 1e-3 * spread.max(), "logits come past the masks"
    by_hand = losses[True] - losses[False]
    assert by_hand.abs().max() > 1e-4, "masks do nothing"
    torch.testing.assert_close(torch.tensor(scores["loss"].to_numpy()).float(), by_hand, rtol=1e-3, atol=1e-4)
    return hook.name, units


def _logits(network: nn.Module, inputs: Any) -> Tensor:
    with torch.no_grad():
        return logits_of(call(network, inputs))


@contextmanager
def _multiplied(module: nn.Module, factors: Tensor, before: bool) -> Iterator[None]:
    """Within: what enters a module (or what comes out), [batch, units] or [batch, ..., units], is multiplied by row."""

    def multiplied(rows: Tensor) -> Tensor:
        shape = (-1, 1, 1) if rows.dim() == 4 else (*[1] * (rows.dim() - 2), -1)  # channels first, tokens, or features
        return rows * factors.view(len(factors), *shape)

    if before:
        handle = module.register_forward_pre_hook(lambda _, args: (multiplied(args[0]),))
    else:
        handle = module.register_forward_hook(lambda _, args, output: multiplied(output))
    with handle:
        yield
