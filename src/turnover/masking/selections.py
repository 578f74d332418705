"""Which masks apply now: a context variable, local to a thread (and to an asyncio task)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from turnover.masking.reruns import Selection, in_backward

# Number of a masked layer -> selection. A fresh mapping for every `with`, so nesting restores the outer one.
_selections: ContextVar[Mapping[int, Selection]] = ContextVar("turnover_selections")
_TLS_KEY = "turnover_selections"


def current_selections() -> Mapping[int, Selection]:
    """The selections of this context, by the number of the masked layer."""
    return _selections.get(None) or {}


def current(number: int) -> Selection | None:
    """The selection for a layer in this context.

    Autograd runs the backward pass of a GPU in threads of its own. They do not inherit context variables, only
    what is stashed in torch's thread-local state; a checkpoint that re-runs there finds its selection that way.
    """
    found = _selections.get(None)
    if found is None and in_backward() and torch._C._is_key_in_tls(_TLS_KEY):
        found = torch._C._get_obj_in_tls(_TLS_KEY)
    return found.get(number) if found else None


@contextmanager
def selecting(selections: Mapping[int, Selection]) -> Iterator[None]:
    """Within: these selections, and no others."""
    outer = current_selections()
    token = _selections.set(selections)
    torch._C._stash_obj_in_tls(_TLS_KEY, selections)
    try:
        yield
    finally:
        _selections.reset(token)
        torch._C._stash_obj_in_tls(_TLS_KEY, outer)
