"""A small batch that goes through a network as often as a question takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle

from turnover.masking.calling import (
    PARALLEL,
    Forward,
    call,
    logits_of,
    map_tensors,
    rows_of,
    take,
    tensors_in,
    to_device,
    wrapping,
)
from turnover.masking.reruns import Selection
from turnover.masking.selections import selecting
from turnover.masking.undisturbed import unnoticed

_ROWS = 16
_trying = ContextVar("turnover_trying", default=False)  # whether this is a pass of a trial


@dataclass(frozen=True)
class FirstBatch:
    """Forward pre-hook: hand what a module is called with to `ask`. A copy made meanwhile keeps it until `remove`."""

    ask: Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Compiled code must not trace into it: what holds in a network is found uncompiled.
        if not torch.compiler.is_compiling() and not _trying.get():
            self.ask(module, args, kwargs)


class Trial(NamedTuple):
    """Forward passes of one small batch through a network, unwrapped."""

    network: nn.Module
    inputs: Any
    forward: Forward
    rows: int
    device: torch.device | None  # where inputs are brought to

    @classmethod
    def over(cls, model: nn.Module, inputs: Any, forward: Forward | None) -> Trial | None:
        """None where the inputs cannot be cut into two rows, or the network does not know its shapes yet."""
        *around, network = wrapping(model)
        parameters = list(network.parameters())
        if any(value.is_nested for value in tensors_in(inputs)) or any(map(nn.parameter.is_lazy, parameters)):
            return None
        rows = min(_ROWS, rows_of(inputs))
        if rows < 2:
            return None
        # These wrappers bring inputs to their devices.
        device = parameters[0].device if parameters and any(isinstance(w, PARALLEL) for w in around) else None
        forward = forward or (lambda network, batch: logits_of(call(network, batch)))
        return cls(network, None, forward, rows, device).of(take(inputs, slice(rows)))

    def of(self, inputs: Any) -> Trial:
        """The same of another batch."""
        inputs = inputs if self.device is None else to_device(inputs, self.device)
        return self._replace(inputs=inputs, rows=rows_of(inputs))

    def first(self, rows: int) -> Trial:
        """The same with the first rows only."""
        return self.of(take(self.inputs, slice(rows)))

    def logits(self, selections: dict[int, Selection] | None = None, order: Tensor | None = None) -> Tensor | None:
        """Logits [rows, classes] under these selections (none: the full network), of the rows in this order.

        None where there are none to judge. Whatever fails here fails again, with its own message, in the forward pass
        that the user asked for.
        """
        inputs = self.inputs if order is None else take(self.inputs, order)
        trying = _trying.set(True)
        try:
            with selecting(selections or {}), unnoticed(self.network):
                found = self.forward(self.network, inputs)
        except Exception:
            return None
        finally:
            _trying.reset(trying)
        understood = isinstance(found, Tensor) and found.shape[:1] == (self.rows,) and found.dim() == 2
        if not understood or not found.is_floating_point() or not bool(torch.isfinite(found).all()):
            return None
        return found

    def heads(self) -> list[tuple[str, nn.Linear]]:
        """The linear layers whose output the logits are, in the order in which they run."""
        outputs: list[tuple[str, nn.Linear, Any]] = []

        def catch(name: str, linear: nn.Linear) -> RemovableHandle:
            return linear.register_forward_hook(lambda _, args, output: outputs.append((name, linear, output)))

        linears = [(name, m) for name, m in self.network.named_modules() if isinstance(m, nn.Linear)]
        with removed([catch(name, linear) for name, linear in linears]):
            logits = self.logits()
        if logits is None:
            return []
        tensors = [each for each in outputs if isinstance(each[2], Tensor) and not each[2].is_nested]
        return [(name, linear) for name, linear, output in tensors if torch.equal(output.to(logits.dtype), logits)]

    def draws(self, order: Tensor) -> list[torch.Size]:
        """The shapes of the random numbers that torch draws for the rows in this order."""
        found = _Draws()
        with found:
            self.logits(order=order)
        return found.shapes

    def trained_after(self, module: nn.Module) -> list[str]:
        """Names of the parameters through which logits can learn without the input of `module`; not its own."""

        def cut(_: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
            return map_tensors(Tensor.detach, args), map_tensors(Tensor.detach, kwargs)

        own = set(module.parameters())
        found = {n: p for n, p in self.network.named_parameters() if p.requires_grad and p not in own}
        # Hooks of its own, so that those of a checkpoint around do not count what is saved here.
        keeping = torch.autograd.graph.saved_tensors_hooks(lambda value: value, lambda value: value)
        with removed([module.register_forward_pre_hook(cut, with_kwargs=True)]), torch.enable_grad(), keeping:
            logits = self.logits()
            if logits is None or not logits.requires_grad or not found:
                return []
            gradients = torch.autograd.grad(logits.sum(), list(found.values()), allow_unused=True)
        return [name for name, gradient in zip(found, gradients, strict=True) if gradient is not None]

    def alike(self, one: Tensor, other: Tensor, spread: float) -> bool:
        """Whether two logits differ by rounding only, measured by the spread that logits have here."""
        exact = one.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(one.device.type)
        return float((one - other).abs().max()) <= (1e-3 if exact else 3e-2) * spread

    @contextmanager
    def leaf_outputs(self, rows: int) -> Iterator[list[tuple[str, Tensor]]]:
        """Within: the first `rows` rows of what every module without submodules gives, in order."""
        found: list[tuple[str, Tensor]] = []

        def note(name: str, module: nn.Module) -> RemovableHandle:
            def hook(_: nn.Module, args: Any, output: Any) -> None:
                if isinstance(output, Tensor) and output.dim() and output.size(0) == self.rows and not output.is_nested:
                    found.append((name, output[:rows].detach().clone()))

            return module.register_forward_hook(hook)

        leaves = [(name, m) for name, m in self.network.named_modules() if name and not any(m.children())]
        with removed([note(name, module) for name, module in leaves]):
            yield found


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within: the shapes of all random numbers that torch draws, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.shapes += [value.shape for value in tensors_in(output)]
        return output


@contextmanager
def removed(handles: list[RemovableHandle]) -> Iterator[None]:
    """Within: hooks that are removed afterwards."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def spread_of(logits: Tensor) -> float:
    """Largest difference of a logit between rows."""
    return float((logits.amax(0) - logits.amin(0)).float().max())
