"""The masked layer itself, and the hooks that put it into a network.

Which masks apply is a context variable: local to a thread (and to an asyncio task), see
`turnover.masking.subnetworks`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from turnover.errors import UserError
from turnover.masking.masks import InstanceMasks, kept_units, scales
from turnover.masking.norms import refuse_thawed
from turnover.masking.reruns import (
    RERUN,
    Selection,
    in_backward,
    refuse_blind_rerun,
    same_selection,
    saved_tensors_hooks,
)
from turnover.masking.selections import current, current_selections

# Masks that a layer remembers between batches: half a million ids at 2,048 units.
_CACHE_BYTES = 1 << 27


_numbers = itertools.count()
_layers: WeakValueDictionary[int, TurnOverDropout] = WeakValueDictionary()


class TurnOverDropout(nn.Module):
    """Masks the units of its input as the current `subnetwork` says; the identity outside of one.

    Exposed activations are scaled by ``1 / keep``, flipped ones by ``1 / (1 - keep)``, so that the full network
    sees their mean. The global random number generator is never touched, and there is no state to save.

    >>> layer = TurnOverDropout()  # written into a network by hand, where `insert` does not reach
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), layer, torch.nn.Linear(16, 3)).eval()
    >>> with torch.no_grad(), subnetwork(model, [7, 7]):
    ...     seen = model[2](torch.ones(2, 16))
    >>> int((seen[0] == 2).sum()), torch.equal(seen[0], seen[1])
    (8, True)

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
        self.used = False  # whether a sub-network may have trained through this layer, or through one it is a copy of
        # States of the network (see `turnover.masking.probing`): those in which it was found in order, and in how many
        # `subnetwork` blocks that was tried to find out.
        self.probed: set[int] = set()
        self.probes: Counter[int] = Counter()
        # BatchNorm that `insert` found in evaluation mode, by name. In a list, so that it is no submodule of this.
        self.frozen: list[tuple[str, nn.Module]] = []
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
        """Factor of every unit (dimension `dim` of `x`) for every row: [batch, units] like `x`, 0 where masked.

        A row that is mixed from several examples passes through the units that all of them keep, or that none of them
        keeps. Its scale is that of one example to the power of how many different ones there are.
        """
        rows, units = x.size(0), x.size(dim)
        if selection.off:
            selection.rows.append(rows)
            return torch.zeros(rows, units, dtype=x.dtype, device=x.device)
        if len(selection.ids) != rows:
            several = rows // len(selection.ids) if len(selection.ids) and rows % len(selection.ids) == 0 else 0
            raise ValueError(
                f"subnetwork was given {len(selection.ids)} ids, but the batch that reached a masked layer has "
                f"{rows} rows: "
                + (
                    f"if the network makes {several} rows of an example (multiple choice, several crops), name a "
                    "module in `after` where an example is one row, or repeat its id as the network repeats it"
                    if several > 1
                    else "pass one id for each row, and mask only where dimension 0 is the batch"
                )
            )
        # Made on the GPU if that is where they go; other devices take them from the CPU, which remembers them.
        ids = selection.ids.to(x.device if x.is_cuda else "cpu")
        scale = scales(self.keep)[selection.flipped]
        if ids.dim() == 1:
            return self.masks(units)(ids, flipped=selection.flipped).to(x.device, x.dtype) * scale
        mask = self.masks(units)(ids.flatten(), flipped=selection.flipped).view(*ids.shape, units).all(1)
        different = (ids.sort(1).values.diff(dim=1) != 0).sum(1, keepdim=True) + 1
        factors: Tensor = mask * scale ** different.double()
        return factors.to(x.device, x.dtype)

    def select(self, compiled: bool = False) -> Selection | None:
        """The sub-network that this forward pass goes through, which is noted; None: the full network.

        Raises:
            UserError: BatchNorm that was frozen mixes examples again.
        """
        selection = current(self._number)
        if selection is not None:
            selection.reached = True
            if not selection.off:
                self._ever_selected = True
                self.used = self.used or torch.is_grad_enabled() or compiled
                refuse_thawed(self.frozen)
        return selection

    def forward(self, x: Tensor) -> Tensor:
        """Mask `x` [batch, ...] row by row.

        Raises:
            ValueError: the batch has another number of rows than the `subnetwork` has ids, BatchNorm that was frozen is
                in training mode, or the network is being exported or traced within a `subnetwork`.
            RuntimeError: activation checkpointing re-runs the forward pass, and not (or maybe not) under the same
                `subnetwork`.
        """
        if not isinstance(x, Tensor) and isinstance(x, torch.fx.Proxy):
            raise UserError("torch.fx.symbolic_trace cannot trace turn-over dropout: call remove(model) first")
        if torch.compiler.is_exporting() or torch._C._is_tracing():
            # A program that leaves this library is the full network, and holds no operator of ours.
            if self._number in current_selections():
                raise UserError(
                    "the network is exported inside of `with subnetwork(...)`, whose masks would be burnt in: leave "
                    "the block first, which exports the full network, or call remove(model)"
                )
            return x
        if torch.compiler.is_compiling():
            # Opaque to the compiler, which therefore neither burns in the ids of the first batch nor breaks the
            # graph; outside of a `subnetwork` the factors are ones.
            dim = self.unit_dim(x) if x.dim() > 1 else 0
            return _along(dim, x, _compiled_factors(x.detach(), self._number, dim))
        selection = self.select()
        if selection is not None and _mapped() and (x.dim() < 2 or len(x) != len(selection.ids)):
            raise UserError(
                "inside of torch.func.vmap a masked layer does not see which example it gets: call the network with "
                "the whole batch, or, for gradients of single examples, with one after the other, each in its "
                "`with subnetwork(...)`"
            )
        if self._ever_selected:
            refuse_blind_rerun()
        checkpointed = torch.is_grad_enabled() and saved_tensors_hooks()
        if x.is_nested or (selection is None and not (checkpointed and x.dim() > 1)):
            return x if selection is None else _along_nested(x, self.factors(selection, x, -1))
        dim = self.unit_dim(x)
        if selection is not None:
            x = _along(dim, x, self.factors(selection, x, dim))
        else:
            # As many saved tensors, of the same shapes, as a mask has: so our own error comes before torch's.
            x = _along(dim, x, x.new_ones(x.shape[0], x.shape[dim]))
        return same_selection(x, selection) if checkpointed else x


def _mapped() -> bool:
    """Whether this runs inside of a transform of torch.func."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _along(dim: int, x: Tensor, factors: Tensor) -> Tensor:
    """`x` times `factors` [batch, units], the units in dimension `dim`; unbatched `x` times factors like it."""
    shape = [1] * x.dim()
    shape[0], shape[dim] = x.shape[0], x.shape[dim]
    return x * factors.view(shape)


def _along_nested(x: Tensor, factors: Tensor) -> Tensor:
    """A nested tensor times `factors` [batch, units], the units in its last dimension."""
    rows = [row * factor for row, factor in zip(x.unbind(), factors, strict=True)]
    return torch.nested.as_nested_tensor(rows, layout=x.layout)


@torch.library.custom_op("turnover::factors", mutates_args=(), tags=(torch.Tag.cudagraph_unsafe,))
def _compiled_factors(x: Tensor, number: int, dim: int) -> Tensor:
    layer = _layers[number]
    selection = layer.select(compiled=True)
    if selection is None:
        if layer._ever_selected and in_backward():
            raise RuntimeError(RERUN)
        return torch.ones(_factor_shape(x, dim), dtype=x.dtype, device=x.device)
    return layer.factors(selection, x, dim if x.dim() > 1 else layer.unit_dim(x))


@_compiled_factors.register_fake
def _(x: Tensor, number: int, dim: int) -> Tensor:
    return x.new_empty(_factor_shape(x, dim))


@_compiled_factors.register_vmap
def _(info: Any, in_dims: tuple[int, None, None], x: Tensor, number: int, dim: int) -> tuple[Tensor, int]:
    # Mapped rows stand side by side: where they are the rows of the batch, they get its masks.
    x = x.movedim(in_dims[0], 0)
    if x.dim() == 2:
        return _compiled_factors(x, number, 1), 0
    return _compiled_factors(x.flatten(0, 1), number, dim).unflatten(0, x.shape[:2]), 0


def _factor_shape(x: Tensor, dim: int) -> list[int]:
    return [x.shape[0], x.shape[dim]] if x.dim() > 1 else list(x.shape)


@dataclass
class _Hook:
    """What `insert` puts on the module called `name`, where `after` asked for it: "head", "all" or "names"."""

    layer: TurnOverDropout
    name: str
    after: str

    @property
    def __name__(self) -> str:
        # What torch.jit.script asks a hook for first.
        raise AttributeError("torch.jit.script does not take turn-over dropout along: call remove(model) first")

    def mask(self, module: nn.Module, x: Any, what: str) -> Tensor:
        if not isinstance(x, (Tensor, torch.fx.Proxy)):
            raise TypeError(
                f"the {what} of module {self.name!r} is of type {type(x).__name__}, not one tensor that could be "
                "masked: name another module in `after`"
            )
        if getattr(module, "_is_replica", False) and self.layer._open and current(self.layer._number) is None:
            raise RuntimeError(
                "torch.nn.DataParallel runs its replicas in other threads, where this `subnetwork` does not reach: "
                "use DistributedDataParallel, or enter `subnetwork` inside of the forward of the module it wraps"
            )
        return self.layer(x)  # type: ignore[no-any-return]


class _MaskInput(_Hook):
    """Forward pre-hook, with keyword arguments: mask what goes into a module."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        if args or not kwargs:
            args = (self.mask(module, args[0] if args else None, "first input"), *args[1:])
        else:
            first = next(iter(kwargs))
            kwargs = {**kwargs, first: self.mask(module, kwargs[first], "first input")}
        # Quantization registers the hooks of a module anew, and without keyword arguments.
        return args if kwargs is None else (args, kwargs)


class _MaskOutput(_Hook):
    """Forward hook: mask what comes out of a module."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
        return self.mask(module, output, "output")


def masking_hooks(model: nn.Module) -> Iterator[tuple[nn.Module, _MaskInput | _MaskOutput]]:
    """Every masking hook under `model`, with the module it is on."""
    for module in model.modules():
        for table in (module._forward_pre_hooks, module._forward_hooks):
            for hook in list(table.values()):
                if isinstance(hook, (_MaskInput, _MaskOutput)):
                    yield module, hook


def remove_hook(module: nn.Module, hook: Any) -> None:
    """Remove a forward hook or pre-hook from `module`."""
    for table in (module._forward_pre_hooks, module._forward_hooks):
        for key in [key for key, value in table.items() if value is hook]:
            del table[key]
            module._forward_pre_hooks_with_kwargs.pop(key, None)


def masked_layers(model: nn.Module) -> list[TurnOverDropout]:
    """The turn-over dropout layers of `model`, inserted or written into it by hand, in order of layer number."""
    found = {id(m): m for m in model.modules() if isinstance(m, TurnOverDropout)}
    for _, hook in masking_hooks(model):
        found[id(hook.layer)] = hook.layer
    return sorted(found.values(), key=lambda layer: layer.layer)
