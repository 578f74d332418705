"""What makes a network this network: a hash of its weights and masks."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from turnover.batches.passes import original
from turnover.errors import UserError
from turnover.masking.calling import tensors_in
from turnover.masking.identity import masks_identity


def model_fingerprint(model: nn.Module) -> str:
    """A hash (hex) of structure, weights and masks of `model`; the same for a compiled network."""
    model = original(model)
    if any(nn.parameter.is_lazy(parameter) for parameter in model.parameters()):
        raise UserError("the network has lazy layers, whose shapes are not known yet: run one batch through it first")
    digest = hashlib.sha256(f"{model!r} {masks_identity(model)}".encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        for part in tensors_in(value):  # of a quantized layer several, packed
            add_tensor(digest, part.dequantize() if part.is_quantized else part)
    return digest.hexdigest()


def add_tensor(digest: hashlib._Hash, value: Tensor) -> None:
    """Take shape, type and bytes of a tensor into a hash."""
    value = value.detach()
    if callable(local := getattr(value, "to_local", None)):  # a tensor that is spread over processes
        value = local()
    value = value.cpu().contiguous()
    digest.update(f"{tuple(value.shape)} {value.dtype}".encode())
    digest.update(value.flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
