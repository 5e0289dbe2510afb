"""Moving to a device and reading from it."""

from __future__ import annotations

import pytest
import torch

from headstudio.device import numbers, reading_is_free, to_device
from headstudio.types import Cameras

META = torch.device("meta")


def test_a_record_moves_with_all_its_tensors_and_keeps_the_rest() -> None:
    cameras = Cameras(torch.eye(4)[None], torch.eye(3)[None], torch.zeros(1), torch.zeros(1), 30, 20)
    moved = to_device(cameras, META)
    assert {moved.camera_from_world.device, moved.intrinsics.device, moved.azimuth_deg.device} == {META}
    assert (moved.width, moved.height) == (30, 20)
    assert to_device(cameras, torch.device("cpu")).intrinsics is cameras.intrinsics, "nothing to do on the CPU"
    assert to_device(torch.arange(3), META).dtype == torch.int64


def test_numbers_are_those_of_the_tensors() -> None:
    values = {
        "a": 3,
        "b": torch.tensor(0.1),
        "c": torch.tensor(7),
        "d": torch.tensor(0.3, dtype=torch.float64),
        "e": torch.tensor(2.5, dtype=torch.bfloat16, requires_grad=True),
    }
    assert numbers(values) == {"a": 3, "b": float(torch.tensor(0.1)), "c": 7, "d": 0.3, "e": 2.5}
    assert list(numbers(values)) == list(values)
    assert numbers({}) == {}


def test_only_the_cpu_is_read_for_nothing() -> None:
    assert reading_is_free(torch.device("cpu"))
    assert not reading_is_free(META)


def test_expanded_tensors_move_to_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer's one background colour for all views is one; `pinned` does what libtorch's pin_memory does."""

    def pinned(tensor: torch.Tensor) -> torch.Tensor:
        storage = torch.empty(tensor.untyped_storage().nbytes(), dtype=torch.uint8).untyped_storage()
        own = torch.empty(0, dtype=tensor.dtype).set_(storage, 0, tensor.size(), tensor.stride())
        return own.copy_(tensor)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    expanded = torch.rand(3).expand(4, 3)
    with pytest.raises(RuntimeError, match="more than one element"):
        expanded.pin_memory()
    assert to_device(expanded, META).shape == (4, 3)
    assert to_device(torch.arange(6).reshape(2, 3).T, META).shape == (3, 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_copy_to_the_gpu_is_right_although_nobody_waits() -> None:
    device = torch.device("cuda")
    sources = [torch.rand(1 << 20) for _ in range(8)]
    moved = [to_device(source.clone(), device) for source in sources]  # the clones are let go before their copy is done
    for source, there in zip(sources, moved, strict=True):
        assert torch.equal(there.cpu(), source)
    assert numbers({"sum": moved[0].sum(), "n": 2.0})["n"] == 2.0
