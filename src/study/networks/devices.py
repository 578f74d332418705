"""Device and precision, chosen explicitly or resolved once."""

from __future__ import annotations

import torch

from turnover.errors import UserError


def resolve_device(name: str, setting: str = "training.device") -> torch.device:
    """The device that `setting` names; ``auto`` is the first of CUDA, MPS and CPU that is there.

    Raises:
        UserError: the device is not there; the message names the setting.
    """
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    device = torch.device(name)
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= available.get(device.type, 0):
        raise UserError(f"{setting}={name!r}: this machine has no such device; use auto or cpu")
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision a setting names; ``auto`` is bfloat16 where the device multiplies it in hardware."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return "bfloat16"
    return "float32"


def processor(device: torch.device) -> dict[str, str]:
    """What else decides the bits of a result on `device`: the GPU's name, or the instruction set of the CPU."""
    if device.type == "cuda":
        return {"processor": torch.cuda.get_device_name(device)}
    return {"processor": torch.backends.cpu.get_cpu_capability()}
