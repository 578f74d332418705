"""What decides the masks of a network, as one string."""

from __future__ import annotations

from torch import nn

from turnover.masking.layer import TurnOverDropout, _Hook


def masks_identity(model: nn.Module) -> str:
    """All that decides the masks of `model`: where they are, and of what layer. The same for a compiled network."""
    found = []
    for name, module in model.named_modules():
        place = ".".join(part for part in name.split(".") if part != "_orig_mod")
        if isinstance(module, TurnOverDropout):
            found.append((place, "here", module))
        for side, table in (("before", module._forward_pre_hooks), ("after", module._forward_hooks)):
            found += [(place, side, hook.layer) for hook in table.values() if isinstance(hook, _Hook)]
    return repr([(*at, m.layer, m.keep, m.seed, m.dim, m.units) for *at, m in found])
