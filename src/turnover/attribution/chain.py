"""Networks that are a chain of layers, read as segments: an affine layer, and what follows it up to the next one.

In a chain the mask of a training example picks a narrower network: masked units neither need their inputs nor feed
the next layer. That only holds where what stands between two affine layers works on every unit alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import fx, nn

from turnover.masking.layer import TurnOverDropout, _MaskInput, _MaskOutput, masked_layers
from turnover.masking.placement import ACTIVATIONS

# These commute with a mask: they map a unit scaled by s >= 0 to its result scaled by s.
_COMMUTING = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Flatten,
    nn.Dropout,
    nn.Identity,
)
_UNITWISE = tuple(kind for kind in ACTIVATIONS if kind is not nn.PReLU) + _COMMUTING
Affine = nn.Linear | nn.Conv2d


@dataclass
class Segment:
    """An affine layer, the unit by unit steps behind it, and the mask among them, if any."""

    affine: Affine
    steps: list[nn.Module] = field(default_factory=list)
    mask: TurnOverDropout | None = None


@dataclass
class Chain:
    """A network in parts: up to the first mask, and from there on.

    Attributes:
        before: modules up to the first mask.
        mask: the first mask.
        after: modules between it and the next affine layer. They commute with the mask, so only need the target.
        segments: the rest; the last one gives the logits.
    """

    before: list[nn.Module]
    mask: TurnOverDropout
    after: list[nn.Module]
    segments: list[Segment]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, TurnOverDropout) or super().is_leaf_module(m, module_qualified_name)


def read_chain(model: nn.Module) -> Chain | None:
    """The network as a chain, None if it is anything else."""
    steps = _steps(model)
    if steps is None or {id(s) for s in steps if isinstance(s, TurnOverDropout)} != {
        id(layer) for layer in masked_layers(model)
    }:
        return None
    first = next((n for n, step in enumerate(steps) if isinstance(step, TurnOverDropout)), None)
    if first is None:
        return None
    mask = steps[first]
    assert isinstance(mask, TurnOverDropout)
    chain = Chain(steps[:first], mask, [], [])
    for step in steps[first + 1 :]:
        if isinstance(step, (nn.Linear, nn.Conv2d)):
            if isinstance(step, nn.Conv2d) and step.groups != 1:
                return None
            chain.segments.append(Segment(step))
        elif not chain.segments:
            if not isinstance(step, _COMMUTING):
                return None
            chain.after.append(step)
        elif not _add(chain.segments[-1], step):
            return None
    last = chain.segments[-1] if chain.segments else None
    whole = last is not None and isinstance(last.affine, nn.Linear) and not last.steps and last.mask is None
    return chain if whole else None


def _add(segment: Segment, step: nn.Module) -> bool:
    """Whether `step` may stand in this segment; if so, it does."""
    if isinstance(step, TurnOverDropout):
        # Behind Flatten a convolution's units are no longer its channels.
        flattened = isinstance(segment.affine, nn.Conv2d) and any(isinstance(s, nn.Flatten) for s in segment.steps)
        if segment.mask is not None or flattened:
            return False
        segment.mask = step
        return True
    segment.steps.append(step)
    return isinstance(step, _UNITWISE if segment.mask is None else _COMMUTING)


def _steps(model: nn.Module) -> list[nn.Module] | None:
    """Modules in order of execution, masks among them; None if the network is no chain of modules."""
    try:
        graph = _Tracer().trace(model)
    except Exception:  # tracing fails in as many ways as there are networks, and none of them is a chain
        return None
    modules = dict(model.named_modules())
    steps: list[nn.Module] = []
    previous: fx.Node | None = None
    for node in graph.nodes:
        if node.op == "output":
            return steps if node.args[0] is previous else None
        if node.op == "placeholder":
            if previous is not None:
                return None
        elif node.op != "call_module" or node.args != (previous,) or node.kwargs:
            return None
        else:
            module = modules[str(node.target)]
            before, after = list(module._forward_pre_hooks.values()), list(module._forward_hooks.values())
            if not all(isinstance(hook, (_MaskInput, _MaskOutput)) for hook in before + after):
                return None
            steps += [hook.layer for hook in before if isinstance(hook, _MaskInput)]
            steps.append(module)
            steps += [hook.layer for hook in after if isinstance(hook, _MaskOutput)]
        previous = node
    return None
