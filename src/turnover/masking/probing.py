"""Whether masks hold in a network, seen from one batch.

Masks say what an example taught only if nothing else carries it: no logits may come past them, and no row of a batch
may change what the network says about another. What code may do to break that has no end, so the network is asked.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from turnover.errors import UserError
from turnover.masking.calling import Forward, logits_of, rows_of, unwrapped
from turnover.masking.insertion import WidenedHead, forget_compiled, places
from turnover.masking.layer import TurnOverDropout, _MaskInput, masked_layers, masking_hooks, remove_hook
from turnover.masking.norms import refuse_thawed
from turnover.masking.reruns import Selection, in_backward
from turnover.masking.selections import current
from turnover.masking.trial import FirstBatch, Trial, removed, spread_of
from turnover.masking.undisturbed import sharded, uncompiled, undisturbed

_TRIES = 3  # a network that is not understood may be large, and every try takes time
_lock = threading.Lock()  # a probe changes modes for a moment


@contextmanager
def probing(model: nn.Module, layers: Sequence[TurnOverDropout]) -> Iterator[None]:
    """Within: the first batch that `model` is called with is probed, unless its `layers` were in this state of it.

    Code that torch.compile made of it runs uncompiled meanwhile: there the batch would not be seen.
    """
    state = _state(unwrapped(model))
    known = all(state in layer.probed or layer.probes[state] >= _TRIES for layer in layers)
    if known or getattr(model, "_is_replica", False):
        yield
        return
    for layer in layers:
        layer.probes[state] += 1
    # First of all hooks: those of a sharded network gather its parameters, which a probe then does for itself.
    handle = model.register_forward_pre_hook(FirstBatch(_probe_called), with_kwargs=True, prepend=True)
    try:
        with uncompiled():
            yield
    finally:
        handle.remove()


def probe(model: nn.Module, inputs: Any, forward: Forward | None = None, *, again: bool = False) -> None:
    """See from one batch whether masks hold in `model`; once in each state of it, and again where a batch did not tell.

    The mask of ``after="head"`` moves to the linear layer that gives the logits, if it is another one. Everything else
    stays as it was: modes, buffers, attributes, random numbers. Nothing happens where the network cannot be understood:
    logits that are not [batch, classes], a batch of one row, tracing, a backward pass.

    Args:
        model: a network with turn-over dropout; it may be wrapped.
        inputs: inputs of a batch, see `turnover.masking.calling.call`. A few rows are used.
        forward: gives the logits, if not by `call` and `logits_of`.
        again: look once more whether logits come past the mask of ``after="head"``: parameters change in training.

    Raises:
        UserError: logits come past the masks, the head that is masked is not the one that gives the logits, or rows of
            a batch change what the network says about each other. With ``after="all"``, where masks in the branches of
            a residual network are meant to be passed by, the first is a warning.
    """
    layers, state = masked_layers(model), _state(unwrapped(model))
    again = again and any(hook.after == "head" for _, hook in masking_hooks(model))
    if not layers or (not again and all(state in layer.probed for layer in layers)) or _elsewhere():
        return
    with _lock:
        trial = Trial.over(model, inputs, forward)
        if trial is None:
            return
        # Processes that share a sharded network must probe alike, whatever their batches tell.
        together = sharded(trial.network)
        if trial.network.training:
            refuse_thawed(layers[0].frozen)
        with undisturbed(trial.network):
            full = _masks_hold(trial)
            if full is None and not together and trial.rows < rows_of(inputs):  # a graph cannot be cut, for one
                trial = trial.of(inputs)
                full = _masks_hold(trial)
        # In evaluation mode nothing tells which modules stay there in training, as they did when masks were in use.
        if (full is not None or together) and (trial.network.training or not any(layer.probed for layer in layers)):
            with undisturbed(trial.network, training=True, frozen=layers[0].frozen):
                _rows_stand_alone(trial, torch.zeros(trial.rows, 1) if full is None else full)
    if full is not None or together:
        for layer in layers:
            layer.probed.add(state)


def head_by_data(model: nn.Module, inputs: Any, forward: Forward | None = None) -> tuple[str, nn.Linear] | None:
    """Name and module of the linear layer whose output the logits are, for one batch.

    Args:
        model, inputs, forward: as for `probe`; masks need not be inserted.

    Returns:
        The masked one if several are; None if none is, or the logits are not [batch, classes].
    """
    with _lock:
        trial = Trial.over(model, inputs, forward)
        if trial is None:
            return None
        with undisturbed(trial.network):
            found = trial.heads()
    return next((head for head in found if _input_masked(head[1])), found[-1] if found else None)


def _state(network: nn.Module) -> int:
    """What an answer holds for: the modules, which parameters they have, and all that is switched on or off in them."""
    found: list[int | bool] = []
    for module in network.modules():
        found.append(id(module))
        found += [parameter is None for parameter in module._parameters.values()]
        found += [value for value in vars(module).values() if value is True or value is False]
    return hash(tuple(found))


def _probe_called(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """`probe` what `module` is called with under a `subnetwork`."""
    if getattr(module, "_is_replica", False):
        return
    if any(current(layer._number) is not None for layer in masked_layers(module)):
        probe(module, (args, kwargs), lambda network, batch: logits_of(network(*batch[0], **batch[1])))


def _masks_hold(trial: Trial) -> Tensor | None:
    """Logits of the full network, unless this batch cannot tell whether logits come past the masks (which may move).

    Raises:
        UserError: they do.
    """
    heads = _mask_the_head(trial)
    full, (dark, rows) = trial.logits(), _dark(trial)
    fewer = trial.first(trial.rows - 1)
    fewer_full, (_, fewer_rows) = fewer.logits(), _dark(fewer)
    if full is None or dark is None or not rows:  # masks that never run are for `subnetwork` to report
        return None
    if fewer_full is not None and [n * fewer.rows for n in rows] != [n * trial.rows for n in fewer_rows]:
        raise UserError(
            f"dimension 0 of what the masks are applied to is not the batch: with {trial.rows} and {fewer.rows} "
            f"examples, masked layers get {_counts(rows)} and {_counts(fewer_rows)} rows, so masks would belong to "
            "other things than examples (steps of time, say). Bring the batch to dimension 0 before that layer, or "
            "name one after which it is there: insert(remove(model), after=[...])"
        )
    spread = spread_of(full)
    if not spread > 1e-6 * float(full.abs().max()):
        return None
    if trial.alike(dark, dark[:1], spread):
        if not heads:
            _refuse_another_head(trial, full, spread)
        return full
    hooks = [hook for _, hook in masking_hooks(trial.network)]
    at = ", ".join(repr(hook.name) for hook in hooks[:5]) + (" and more" if len(hooks) > 5 else "")
    message = (
        f"logits also come past the masks{f' inserted at {at}' if at else ''}: with all masked units off they still "
        f"depend on the input, so an example also trains what its flipped sub-network uses. {_cure(trial, spread)}"
    )
    if any(hook.after == "head" for hook in hooks):
        raise UserError(message)
    warnings.warn(f"scores are damped, because {message}", stacklevel=2)
    return full


def _dark(trial: Trial) -> tuple[Tensor | None, list[int]]:
    """Logits with all masked units off, and how many rows each masked layer got that ran."""
    off = Selection(torch.empty(0, dtype=torch.int64), flipped=False, off=True)
    return trial.logits({layer._number: off for layer in masked_layers(trial.network)}), off.rows


def _counts(rows: list[int]) -> str:
    return ", ".join(map(str, sorted(set(rows)))) or "no"


def _mask_the_head(trial: Trial) -> list[tuple[str, nn.Linear]]:
    """Move the mask of ``after="head"`` to the linear layer that gives the logits.

    Returns:
        The layers that give the logits, if such a mask is there.

    Raises:
        UserError: it is too late for that, or the layer was widened.
    """
    found = [(module, hook) for module, hook in masking_hooks(trial.network) if isinstance(hook, _MaskInput)]
    heads = trial.heads() if found else []
    if not heads or any(_input_masked(linear) for _, linear in heads):
        return heads
    (module, hook), (name, linear) = found[0], heads[-1]
    widened = any(isinstance(module, WidenedHead) for module in trial.network.modules())
    if widened or hook.layer.used:
        full = trial.logits()
        why = "was widened" if widened else "has trained under its masks"
        cure = _cure(trial, spread_of(full)) if full is not None else ""
        raise UserError(
            f'after="head" masks {hook.name!r}, the last linear layer registered, but the logits are those of '
            f"{name!r}, and masks cannot move there, because {hook.name!r} {why}. {cure}"
        )
    remove_hook(module, hook)
    hook.layer.units = linear.in_features
    linear.register_forward_pre_hook(_MaskInput(hook.layer, name, hook.after), with_kwargs=True)
    forget_compiled()
    return heads


def _refuse_another_head(trial: Trial, full: Tensor, spread: float) -> None:
    """Raise UserError if more is trained behind the layer that ``after="head"`` masks: then it is not the head.

    What has no parameters may stand behind it (softcap, log_softmax), or what leaves the logits affine in the masked
    units (a learned scale).
    """
    hook = next((hook for _, hook in masking_hooks(trial.network) if isinstance(hook, _MaskInput)), None)
    if hook is None or sharded(trial.network):
        return
    ids, keep = torch.arange(trial.rows), hook.layer.keep
    exposed, flipped = (trial.logits({hook.layer._number: Selection(ids, flipped=of)}) for of in (False, True))
    if exposed is None or flipped is None or trial.alike(full, keep * exposed + (1 - keep) * flipped, spread):
        return
    later = trial.trained_after(trial.network.get_submodule(hook.name))
    if later:
        raise UserError(
            f'after="head" masks the input of {hook.name!r}, the last linear layer, but the logits are not those of '
            f"that layer: {', '.join(map(repr, later[:5]))} is trained behind it. {_cure(trial, spread)}"
        )


def _input_masked(module: nn.Module) -> bool:
    return any(isinstance(hook, _MaskInput) for hook in module._forward_pre_hooks.values())


def _cure(trial: Trial, spread: float) -> str:
    """A sentence that names a module whose masks nothing would pass."""
    name = None if sharded(trial.network) else _gate(trial, spread)
    if name is None:
        return (
            "Give the network one module that all ways to the logits go through (a torch.nn.Identity around their "
            "common features will do), and name it: insert(remove(model), after=[...])"
        )
    return f"Cure, before training: insert(remove(model), after=[{name!r}])"


def _gate(trial: Trial, spread: float) -> str | None:
    """The last module without whose output the logits do not depend on the input."""
    order: list[str] = []
    shape = getattr(trial.logits(), "shape", None)

    def note(name: str, module: nn.Module) -> RemovableHandle:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            if not isinstance(output, Tensor) or output.dim() < 2 or output.size(0) != trial.rows:
                return
            units = output.size(1 if output.dim() in (2, 4) else -1)
            if output.is_nested or shape is None or units != shape[1]:  # masks on the logits would do no good
                order.append(name)

        return module.register_forward_hook(hook)

    modules = {name: module for name, module in trial.network.named_modules() if name}
    with removed([note(name, module) for name, module in modules.items()]):
        trial.logits()
    for name in dict.fromkeys(reversed(order)):
        try:
            places(trial.network, [name])
        except ValueError:  # cannot be masked
            continue
        with removed([modules[name].register_forward_hook(lambda _, args, output: torch.zeros_like(output))]):
            dark = trial.logits()
        if dark is not None and trial.alike(dark, dark[:1], spread):
            return name
    return None


def _rows_stand_alone(trial: Trial, full: Tensor) -> None:
    """Raise UserError if what the network says about a row depends on other rows of the batch, in training mode.

    `full` are its logits in evaluation mode.
    """
    # The first half stays, of the second each row becomes the first one; the row most unlike it stands at the end.
    last = int((full - full[0]).abs().amax(1).argmax())
    order = torch.tensor([row for row in range(trial.rows) if row != last] + [last])
    half = trial.rows // 2
    other = torch.where(torch.arange(trial.rows) < half, order, order[0])
    with trial.leaf_outputs(half) as one:
        first = trial.logits(order=order)
    with trial.leaf_outputs(half) as two:
        second = trial.logits(order=other)
    if first is None or second is None or trial.alike(first[:half], second[:half], spread_of(first)):
        return
    again = trial.logits(order=order)
    if again is None or not trial.alike(first, again, spread_of(first)):
        return  # random numbers of its own: nothing can be compared
    if trial.draws(order) != trial.draws(other):
        return  # other rows take more random numbers or fewer, so these rows get others: nor can this be
    changed = (name for (name, a), (_, b) in zip(one, two, strict=False) if not torch.equal(a, b))
    name = next(changed, None)
    kind = type(trial.network.get_submodule(name)).__name__ if name else ""
    where = f" (it shows first in the output of module {name!r}, a {kind})" if name else ""
    raise UserError(
        "examples are mixed inside of the batch: in training mode, what the network says about a row changes with the "
        f"other rows{where}, so every example would leak into the sub-networks of the others. Normalize within an "
        "example (GroupNorm, LayerNorm), or put what mixes into evaluation mode with .eval()"
    )


def _elsewhere() -> bool:
    """Whether this is no place for further forward passes: tracing, capture, transforms, a backward pass."""
    return (
        torch._C._is_tracing()
        or torch.compiler.is_exporting()
        or in_backward()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())  # type: ignore[no-untyped-call]
    )
