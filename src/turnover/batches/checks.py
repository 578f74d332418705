"""What users hand in by mistake, refused in one sentence: once a call, never batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from turnover.errors import UserError
from turnover.masking.calling import tensors_in

INTEGERS = (
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip
Names = np.ndarray[Any, np.dtype[Any]]  # ids as users give them: int64, or strings as objects
IGNORED = -100  # the label that torch's losses leave out


class Inputs(Protocol):
    """Inputs of examples: a tensor, or anything with a length that makes the tensor of a slice when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


def check_network(model: Any) -> None:
    """Raise TypeError unless `model` is one network."""
    if isinstance(model, (list, tuple, nn.ModuleList)):
        raise TypeError(f"a {type(model).__name__} is given where one network is asked for: call this for each of them")
    if not isinstance(model, nn.Module):
        raise TypeError(f"a model is a {type(model).__name__}: pass a torch.nn.Module")


def networks_of(models: Any) -> list[nn.Module]:
    """One network or several as a list.

    Raises:
        TypeError: something else is among them.
        UserError: there are none.
    """
    single = isinstance(models, nn.Module) and not isinstance(models, nn.ModuleList)
    networks = [models] if single or not isinstance(models, Iterable) or isinstance(models, str) else list(models)
    if not networks:
        raise UserError("no model was given: pass a torch.nn.Module, or several")
    for network in networks:
        check_network(network)
    return networks


def check_inputs(x: Any, name: str = "x") -> None:
    """Raise TypeError where `x` cannot be `Inputs`: slices of arrays and lists are no tensors.

    Args:
        x: inputs [n, ...] of a network.
        name: what the caller's argument is called.
    """
    if isinstance(x, np.ndarray):
        check_tensor(x, name)
    if isinstance(x, (list, tuple, str)) or not (hasattr(x, "__len__") and hasattr(x, "__getitem__")):
        raise TypeError(f"{name} must be a tensor, or give one when sliced, got {type(x).__name__}: pass a tensor")
    if not isinstance(x, Tensor) and len(x) and not isinstance(part := x[0:1], Tensor):
        raise TypeError(
            f"{name} is a {type(x).__name__}, which gives a {type(part).__name__} when sliced, not a tensor of inputs: "
            "if it holds examples with their labels, leave y out"
        )


def check_tree(x: Any, name: str = "x") -> None:
    """Raise TypeError where `x` cannot be inputs: a tensor, a dict or tuple of tensors, or what gives one when sliced.

    Args:
        x: inputs of examples.
        name: what the caller's argument is called.
    """
    if not isinstance(x, (Mapping, tuple)):
        check_inputs(x, name)
        return
    _check_parts(x, name)
    if _holds_none(x):
        raise TypeError(f"{name} is a {type(x).__name__} without tensors: pass a tensor, or a dict or tuple of tensors")


def _check_parts(tree: Any, name: str) -> None:
    """Raise TypeError for numbers that are no tensors: they would go whole to the network with every batch."""
    for key, part in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
        if isinstance(part, np.ndarray) or (isinstance(part, list) and _holds_none(part)):
            check_tensor(part, f"{name}[{key!r}]")
        elif isinstance(part, (Mapping, tuple, list)):
            _check_parts(part, f"{name}[{key!r}]")


def _holds_none(tree: Any) -> bool:
    return next(tensors_in(tree), None) is None


def given_labels(labels: Any, name: str, class_names: Sequence[str] | None = None) -> tuple[Tensor, bool]:
    """`check_labels` of what users hand in, which may also be 0.0 and 1.0, as the loss of a single logit takes them.

    Returns:
        int64 [n], on the device of `labels`; whether they were such floats, which only two classes take: see
        `check_labels`.
    """
    labels = _numbered(labels, class_names, name)
    floats = labels.is_floating_point() and bool(((labels == 0) | (labels == 1)).all())
    return check_labels(labels.long() if floats else labels, name=name), floats


def check_labels(
    labels: Any,
    classes: int | None = None,
    name: str = "labels",
    class_names: Sequence[str] | None = None,
    floats: bool = False,
) -> Tensor:
    """The labels, as torch's losses and indexing want them.

    Args:
        labels: integers [n] of any type, in a tensor (on any device), an array or a list; or strings.
        classes: how many classes the network has, once that is known: looks at the values, which waits for a GPU.
        name: what the caller's argument is called.
        class_names: the classes in the order of the network's outputs; strings need them.
        floats: they were given as 0.0 and 1.0.

    Returns:
        int64 [n], on the device of `labels`.

    Raises:
        TypeError: `labels` are neither integers nor strings, or were floats of more than two classes.
        UserError: `labels` is not one-dimensional, a string is not among `class_names`, or a label is outside of
            0..classes-1.
    """
    labels = _numbered(labels, class_names, name)
    if labels.dim() != 1:
        raise UserError(
            f"{name} must be one-dimensional, one label a row of the batch; got shape {tuple(labels.shape)}: "
            f"{_cure_of_shape(labels, name)} (scores are for class logits [batch, classes] and one integer label a row)"
        )
    if labels.dtype not in INTEGERS:
        whole = labels.dtype.is_floating_point and len(labels) and bool((labels == labels.round()).all())
        cure = (
            f"pass {name}.long()"
            if whole or labels.dtype == torch.bool
            else "the numbers of a regression, or soft labels, are no classes, and there are no scores for them"
        )
        raise TypeError(f"{name} must be integers, classes counted from 0, got {labels.dtype}: {cure}")
    if floats and classes not in (None, 2):
        raise TypeError(f"{name} must be integers, classes counted from 0, got floats: pass {name}.long()")
    if classes is not None and len(labels):
        labels = labels.long()
        low, high = int(labels.min()), int(labels.max())
        if low == IGNORED:
            raise UserError(f"{name} hold {IGNORED}, which marks what is to be ignored: leave these examples out")
        if low < 0 or high >= classes:
            raise UserError(
                f"labels run from {low} to {high}, but the network has classes 0 to {classes - 1} ({classes} classes)"
            )
    found: Tensor = labels.long()
    return found


def _numbered(labels: Any, class_names: Sequence[str] | None, name: str) -> Tensor:
    """Labels as a tensor: strings by their place among the classes."""
    if isinstance(labels, Tensor):
        return labels
    values = np.asarray(labels)
    if values.dtype.kind in "biuf":
        return torch.from_numpy(values)
    if values.dtype.kind in "US" or (values.dtype == object and all(isinstance(value, str) for value in values.flat)):
        if class_names is None:
            raise TypeError(
                f"{name} are strings: pass classes=[...], the classes' names in the order of the network's outputs"
            )
        place = {of: number for number, of in enumerate(class_names)}
        if len(place) < len(class_names):
            raise UserError("classes hold a name twice: pass one for each output of the network")
        unknown = [value for value in values.flat if value not in place]
        if unknown:
            raise UserError(f"{name} hold {str(unknown[0])!r}, which is not among classes: {', '.join(place)}")
        return torch.tensor([place[value] for value in values.flat]).view(values.shape)
    kind = f"an array of {values.dtype}" if isinstance(labels, np.ndarray) else f"a {type(labels).__name__}"
    raise TypeError(f"{name} must be integers or strings, one a row, got {kind}")


def _cure_of_shape(labels: Tensor, name: str) -> str:
    if labels.dim() == 2 and labels.shape[1] == 1:
        return f"pass {name}.squeeze(1)"
    if labels.dim() == 2 and bool(((labels == 0) | (labels == 1)).all()):
        if bool((labels.sum(1) == 1).all()):
            return f"of one-hot labels pass {name}.argmax(1)"
        return (
            "of several labels a row (multi-hot) score one column at a time, with a forward=... that gives the logits "
            "[-z, z] of that label"
        )
    if labels.dim() == 2 and labels.dtype.is_floating_point:
        return "of soft labels pass the label that was given, as an integer"
    return (
        "of labels for every token or pixel there are no scores; score whole rows, with one label each, or make every "
        "token a row with an id of its own"
    )


def check_names(ids: Any, name: str = "ids") -> Names:
    """Ids as they are given back in results.

    Args:
        ids: integers of any type, in a tensor, an array or a list; or strings.
        name: what the caller's argument is called.

    Returns:
        An array [n]: int64, or strings as objects.

    Raises:
        TypeError: they are neither.
        UserError: they are not one-dimensional.
    """
    if isinstance(ids, Tensor):
        values = ids.detach().cpu().numpy()
    else:  # a list of numbers and names would all become names
        values = np.asarray(ids, dtype=object if isinstance(ids, (list, tuple)) else None)
    if values.ndim != 1:
        raise UserError(f"{name} must be one-dimensional, one id a row; got shape {values.shape}")
    kinds = {type(value) for value in values.tolist()} if values.dtype.kind in "OUS" else set()
    if values.dtype.kind in "iu" or (kinds and kinds <= {int}):
        if len(values) and max(abs(int(values.max())), abs(int(values.min()))) >= 1 << 63:
            raise UserError(f"{name} hold numbers beyond 63 bits: pass them as names, str(id)")
        return values.astype(np.int64)
    if kinds and kinds <= {str, np.str_}:
        return values.astype(object)
    if not len(values):
        return values.astype(np.int64)
    raise TypeError(f"{name} must be integers or strings, one a row, got {type(ids).__name__} of {values.dtype}")


def check_example_ids(ids: Any, name: str = "ids", *, warn: bool = True) -> None:
    """Raise unless `ids` are those of examples.

    Args:
        ids: integers [n] of any type, on any device, or names.
        name: what the caller's argument is called.
        warn: of repeated ids, see `warn_of_repeats`.

    Raises:
        TypeError: `ids` are neither integers nor strings.
        UserError: `ids` are not one-dimensional.
    """
    names = check_names(ids, name)
    if warn:
        warn_of_repeats(names, name)


def warn_of_repeats(names: Names, name: str = "ids") -> None:
    """Warn where ids are there more than once: right for views or copies of one example, a mistake for all else."""
    values, counts = np.unique(names, return_counts=True)
    if len(values) < len(names):
        first = int(np.argmax(counts > 1))
        warnings.warn(
            f"{name} repeat: id {values[first]} stands there {counts[first]} times, {len(values)} of "
            f"{len(names)} are different. Rows with one id share a mask: right for views or copies of one example; all "
            "others need ids of their own. (Batches of three parts are (x, y, id); several inputs are ((x1, x2), y).)",
            stacklevel=4,
        )


def check_tensor(value: Any, name: str) -> None:
    """Raise TypeError unless `value` is a tensor."""
    if isinstance(value, Tensor):
        return
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        raise TypeError(f"{name} must be a tensor, got a numpy array: pass torch.from_numpy({name})")
    kind = f"a numpy array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    raise TypeError(f"{name} must be a tensor of numbers, got {kind}: pass torch.tensor(...), numbers instead of names")
