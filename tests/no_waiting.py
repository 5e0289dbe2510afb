"""`no_waiting()`: inside it, whatever would make the host wait for an accelerator raises `Waits`.

It needs no accelerator: tensors on torch's "meta" device stand for one. They have shapes and gradients but no values,
so reading one raises by itself; the modes here add what "meta" lets through and CUDA waits for: copies between host
and device that block, numbers of the host put on the device, and shapes that depend on values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense, aten.nonzero, aten.is_nonzero, aten.masked_select, aten.equal, aten._unique2,
    aten.unique_dim, aten.unique_consecutive, aten._linalg_check_errors, aten.repeat_interleave,
}  # fmt: skip


class Waits(AssertionError):
    """The host would wait for the device here."""


def _there(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type != "cpu"


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        if packet in READS and any(map(_there, tensors)):
            raise Waits(f"{func} reads the device")
        if packet in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_) and _there(args[0]):
            self._check_index(func, args)
        result = func(*args, **kwargs)
        if packet in (aten._to_copy, aten.copy_, aten.to):
            source = args[1] if packet is aten.copy_ else args[0]
            self._check_copy(func, source, result, args, kwargs)
        return result

    def _check_index(self, func: Any, args: Any) -> None:
        for index in args[1]:
            if index is None:
                continue
            if index.device.type == "cpu":
                raise Waits(f"{func} with an index on the host")
            fills = len(args) > 2 and args[2].dim() == 0  # `x[mask] = number` is a masked_fill on CUDA
            if index.dtype in (torch.bool, torch.uint8) and not fills:
                raise Waits(f"{func} with a mask: as many values as it has ones")

    def _check_copy(self, func: Any, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> None:
        if _there(source) and not _there(result):
            raise Waits(f"{func} to the host")
        blocks = not (kwargs.get("non_blocking") or (func.overloadpacket is aten.copy_ and args[2:] == (True,)))
        if _there(result) and not _there(source) and blocks:
            raise Waits(f"{func} from the host without non_blocking")
        if func.overloadpacket is aten.copy_ and _there(result) and result.dim() == 0 and not source.requires_grad:
            raise Waits(f"{func}: `x[0] = number` copies the number from the host")


class _Calls(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.__getitem__, Tensor.__setitem__) and _there(args[0]):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if any(isinstance(part, list) for part in index):
                raise Waits("a list as index is a tensor from the host")
        result = func(*args, **(kwargs or {}))
        makers = (torch.tensor, torch.as_tensor, Tensor.new_tensor)
        if func in makers and _there(result) and not any(isinstance(v, Tensor) for v in args[-1:]):
            raise Waits(f"{getattr(func, '__name__', func)} puts numbers of the host on the device")
        return result


@contextmanager
def no_waiting() -> Iterator[None]:
    """See the module. Work on the CPU's own tensors is free."""
    with _Calls(), _Operations():
        yield


@contextmanager
def allowed() -> Iterator[None]:
    """A hole in `no_waiting`, for code that stands for something else (a renderer of the tests for gsplat)."""
    with torch.utils._python_dispatch._disable_current_modes(), torch._C.DisableTorchFunction():
        yield
