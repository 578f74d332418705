"""The masked layer itself, and `subnetwork`, which says whose masks apply.

Which masks apply is a context variable: local to a thread (and to an asyncio task), gone with the ``with`` block.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from turnover.masking.masks import InstanceMasks, check_ids, kept_units, scales
from turnover.masking.reruns import (
    RERUN,
    Selection,
    in_backward,
    refuse_blind_rerun,
    same_selection,
    saved_tensors_hooks,
)

# Masks that a layer remembers between batches: half a million ids at 2,048 units.
_CACHE_BYTES = 1 << 27


# Layer number -> selection. A fresh mapping for every `with`, so nesting restores the outer one.
_selections: ContextVar[Mapping[int, Selection]] = ContextVar("turnover_selections")
_numbers = itertools.count()
_layers: WeakValueDictionary[int, TurnOverDropout] = WeakValueDictionary()
_lock = threading.Lock()
_TLS_KEY = "turnover_selections"


class TurnOverDropout(nn.Module):
    """Masks the units of its input as the current `subnetwork` says; the identity outside of one.

    Exposed activations are scaled by ``1 / keep``, flipped ones by ``1 / (1 - keep)``, so that the full network
    sees their mean. The global random number generator is never touched, and there is no state to save.

    Args:
        keep: fraction of units an example trains, inside (0, 1).
        seed: seed of the masks.
        layer: number of this layer in its network, part of the masks' seed.
        dim: dimension of the input that holds the units. None: dimension 1 for images [batch, channel, height,
            width], the last dimension otherwise. Dimension 0 always holds the batch.
        units: how many units are expected. Where dimension `dim` has another size, but the other of dimension 1 and
            the last one has this size, that one holds the units (channels that were permuted to the end).

    Raises:
        ValueError: `keep` is out of range.
    """

    def __init__(
        self, keep: float = 0.5, seed: int = 0, layer: int = 0, dim: int | None = None, units: int | None = None
    ) -> None:
        super().__init__()
        kept_units(1 << 20, keep)  # refuse an impossible fraction before the first batch
        self.keep, self.seed, self.layer, self.dim, self.units = keep, seed, layer, dim, units
        self._masks: dict[int, InstanceMasks] = {}
        self._register()

    def _register(self) -> None:
        self._number = next(_numbers)
        self._open = 0  # `subnetwork` contexts of this layer, in all threads
        self._ever_selected = False
        _layers[self._number] = self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_masks": {}}  # remembered masks are large, and quick to make again

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy (copy.deepcopy, pickle) is another layer: a selection for the one must not reach the other.
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._register()

    def extra_repr(self) -> str:
        return f"keep={self.keep}, seed={self.seed}, layer={self.layer}, dim={self.dim}"

    def masks(self, units: int) -> InstanceMasks:
        """The masks of this layer for activations of `units` units."""
        if units not in self._masks:
            self._masks[units] = InstanceMasks(
                units, self.keep, seed=self.seed, layer=self.layer, cache_bytes=_CACHE_BYTES
            )
        return self._masks[units]

    def unit_dim(self, x: Tensor) -> int:
        """Which dimension of `x` holds the units.

        Raises:
            ValueError: `x` has no dimension beside the batch.
        """
        last = x.dim() - 1
        if last < 1:
            raise ValueError(f"a masked layer got shape {tuple(x.shape)}: it needs [batch, ..., units]")
        if last == 1:
            return 1
        dim = (1 if last == 3 else last) if self.dim is None else self.dim % x.dim()
        if self.units is not None and x.shape[dim] != self.units:
            other = {1: last, last: 1}.get(dim, dim)
            return other if x.shape[other] == self.units else dim
        return dim

    def factors(self, selection: Selection, x: Tensor, dim: int) -> Tensor:
        """Factor of every unit (dimension `dim` of `x`) for every row: [batch, units] like `x`, 0 where masked."""
        if len(selection.ids) != x.shape[0]:
            raise ValueError(
                f"subnetwork was given {len(selection.ids)} ids, but the batch that reached a masked layer has "
                f"{x.shape[0]} rows: pass one id for each row, and mask only where dimension 0 is the batch"
            )
        # Made on the GPU if that is where they go; other devices take them from the CPU, which remembers them.
        ids = selection.ids.to(x.device if x.is_cuda else "cpu")
        mask = self.masks(x.shape[dim])(ids, flipped=selection.flipped)
        return mask.to(x.device, x.dtype) * scales(self.keep)[selection.flipped]

    def forward(self, x: Tensor) -> Tensor:
        """Mask `x` [batch, ...] row by row.

        Raises:
            ValueError: the batch has another number of rows than the `subnetwork` has ids.
            RuntimeError: activation checkpointing re-runs the forward pass, and not (or maybe not) under the same
                `subnetwork`.
        """
        dim = self.unit_dim(x)
        if torch.compiler.is_compiling():
            # Opaque to the compiler, which therefore neither burns in the ids of the first batch nor breaks the
            # graph; outside of a `subnetwork` the factors are ones.
            return _along(dim, x, _compiled_factors(x.detach(), self._number, dim))
        selection = _current(self._number)
        if self._ever_selected:
            refuse_blind_rerun()
        checkpointed = torch.is_grad_enabled() and saved_tensors_hooks()
        if selection is not None:
            self._ever_selected = True
            x = _along(dim, x, self.factors(selection, x, dim))
        elif checkpointed:
            # As many saved tensors, of the same shapes, as a mask has: so our own error comes before torch's.
            x = _along(dim, x, x.new_ones(x.shape[0], x.shape[dim]))
        return same_selection(x, selection) if checkpointed else x


def _along(dim: int, x: Tensor, factors: Tensor) -> Tensor:
    """`x` times `factors` [batch, units], the units in dimension `dim`."""
    shape = [1] * x.dim()
    shape[0], shape[dim] = x.shape[0], x.shape[dim]
    return x * factors.view(shape)


def _current(number: int) -> Selection | None:
    """The selection for a layer in this context.

    Autograd runs the backward pass of a GPU in threads of its own. They do not inherit context variables, only
    what is stashed in torch's thread-local state; a checkpoint that re-runs there finds its selection that way.
    """
    found = _selections.get(None)
    if found is None and in_backward() and torch._C._is_key_in_tls(_TLS_KEY):
        found = torch._C._get_obj_in_tls(_TLS_KEY)
    return found.get(number) if found else None


@torch.library.custom_op("turnover::factors", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def _compiled_factors(x: Tensor, number: int, dim: int) -> Tensor:
    layer, selection = _layers[number], _current(number)
    if selection is None:
        if layer._ever_selected and in_backward():
            raise RuntimeError(RERUN)
        return torch.ones(x.shape[0], x.shape[dim], dtype=x.dtype, device=x.device)
    layer._ever_selected = True
    return layer.factors(selection, x, dim)


@_compiled_factors.register_fake
def _(x: Tensor, number: int, dim: int) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[dim])


@dataclass
class _Hook:
    """What `insert` puts on the module called `name`."""

    layer: TurnOverDropout
    name: str

    def mask(self, module: nn.Module, x: Any, what: str) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(
                f"the {what} of module {self.name!r} is of type {type(x).__name__}, not one tensor that could be "
                "masked: name another module in `after`"
            )
        if getattr(module, "_is_replica", False) and self.layer._open and _current(self.layer._number) is None:
            raise RuntimeError(
                "torch.nn.DataParallel runs its replicas in other threads, where this `subnetwork` does not reach: "
                "use DistributedDataParallel, or enter `subnetwork` inside of the forward of the module it wraps"
            )
        return self.layer(x)  # type: ignore[no-any-return]


class _MaskInput(_Hook):
    """Forward pre-hook: mask what goes into a module."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.mask(module, args[0] if args else None, "first positional input"), *args[1:])


class _MaskOutput(_Hook):
    """Forward hook: mask what comes out of a module."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
        return self.mask(module, output, "output")


def masking_hooks(model: nn.Module) -> Iterator[tuple[dict[int, Callable[..., Any]], _MaskInput | _MaskOutput]]:
    """Every masking hook under `model`, with the table of hooks it stands in."""
    for module in model.modules():
        for table in (module._forward_pre_hooks, module._forward_hooks):
            for hook in list(table.values()):
                if isinstance(hook, (_MaskInput, _MaskOutput)):
                    yield table, hook


def masked_layers(model: nn.Module) -> list[TurnOverDropout]:
    """The turn-over dropout layers of `model`, inserted or written into it by hand, in order of layer number."""
    found = {id(m): m for m in model.modules() if isinstance(m, TurnOverDropout)}
    for _, hook in masking_hooks(model):
        found[id(hook.layer)] = hook.layer
    return sorted(found.values(), key=lambda layer: layer.layer)


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


@contextmanager
def subnetwork(model: nn.Module, ids: Tensor | Sequence[int], *, flipped: bool = False) -> Iterator[None]:
    """Within this context, row r of any batch that `model` sees passes through the sub-network of ``ids[r]``.

    Contexts nest (the inner one counts) and are local to the thread; `model` may be wrapped (torch.compile,
    DistributedDataParallel, a Lightning module). With activation checkpointing (``use_reentrant=False``) call
    ``backward()`` inside the context: it runs the forward pass again. Enter it outside of compiled code.

    Args:
        model: a network with turn-over dropout.
        ids: integer ids [batch] of the training examples, on any device.
        flipped: pass through the complements, which never trained on these examples.

    Raises:
        ValueError: the model has no turn-over dropout; within the context, a batch with another number of rows.
        TypeError: ids are not integers.
    """
    ids = torch.as_tensor(ids)
    check_ids(ids)
    layers = masked_layers(model)
    if not layers:
        raise ValueError("the model has no turn-over dropout: call insert(model, ...) first")
    selection = Selection(ids, flipped)
    outer = _selections.get({})
    inner = {**outer, **{layer._number: selection for layer in layers}}
    with _lock:
        for layer in layers:
            layer._open += 1
    token = _selections.set(inner)
    torch._C._stash_obj_in_tls(_TLS_KEY, inner)
    try:
        yield
    finally:
        _selections.reset(token)
        torch._C._stash_obj_in_tls(_TLS_KEY, outer)
        with _lock:
            for layer in layers:
                layer._open -= 1
