"""Moving values between the host and a device without making the host wait for the device.

Randomness is drawn on the host, so that every device sees the same draw; then it is moved by `to_device`. What a
step leaves on an accelerator is read only where the loop has to know it (`reading_is_free`, `numbers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

T = TypeVar("T")


def reading_is_free(device: torch.device) -> bool:
    """Whether looking at a value costs nothing: on an accelerator the host would wait for all that it has queued."""
    return device.type == "cpu"


def wait_for(device: torch.device) -> None:
    """Until the device has done all that was asked of it; for clocks."""
    if not reading_is_free(device):
        torch.accelerator.synchronize(device)


def to_device(value: T, device: torch.device) -> T:
    """A tensor, or a frozen record of tensors (`headstudio.types`), on `device`; dtypes stay.

    From the host to an accelerator it goes through page-locked memory and nobody waits: a plain `.to(device)` would
    stop the host until the device has done everything that was asked of it before.
    """
    if isinstance(value, Tensor):
        return _moved(value, device)
    record: Any = value
    parts = {field.name: getattr(record, field.name) for field in fields(record)}
    moved = {name: _moved(part, device) for name, part in parts.items() if isinstance(part, Tensor)}
    return cast(T, replace(record, **moved))


def _moved(tensor: Tensor, device: torch.device) -> Any:
    if tensor.device.type != "cpu" or device.type == "cpu":
        return tensor.to(device)
    # The caching allocator of page-locked memory keeps a block until its copy is done, so it may be let go at once.
    # An expanded tensor can't be pinned: torch keeps its strides and then refuses to write to one place many times.
    ready = tensor.contiguous().pin_memory() if torch.accelerator.is_available() else tensor
    return ready.to(device, non_blocking=True)


def numbers(values: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Plain numbers of a mapping of numbers and 0-dim tensors; waits once for each device that holds any."""
    tensors = {name: value.detach() for name, value in values.items() if isinstance(value, Tensor)}
    read: dict[str, float] = {}
    for device in dict.fromkeys(tensor.device for tensor in tensors.values()):
        here = {name: tensor for name, tensor in tensors.items() if tensor.device == device}
        read |= dict(zip(here, torch.stack(list(here.values())).tolist(), strict=True))  # the widest of their dtypes
    return {name: read[name] if name in read else float(value) for name, value in values.items()}
