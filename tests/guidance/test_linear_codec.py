"""The linear codec against PCA by hand, and as a part that diffusers accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from headstudio.guidance.linear_codec import LinearCodec


def smooth_pictures(count: int, size: int = 32, seed: int = 0) -> Tensor:
    noise = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (
        interpolate(noise, size=(size, size), mode="bicubic").clamp(-2, 2) / 2
        + torch.tensor([0.2, -0.1, 0.0])[:, None, None]
    )


@pytest.fixture(scope="module")
def codec() -> LinearCodec:
    return LinearCodec.fit(smooth_pictures(64), latent_channels=12)


def test_latents_have_the_shape_and_unit_spread(codec: LinearCodec) -> None:
    latents = codec.encode(smooth_pictures(64)).latent_dist.sample() * codec.config.scaling_factor
    assert latents.shape == (64, 12, 4, 4)
    assert float(latents.square().mean()) == pytest.approx(1.0, rel=1e-4)
    power = latents.square().mean(dim=(0, 2, 3))
    assert bool((power[:-1] >= power[1:] - 1e-5).all())  # components come in order of variance


def test_decode_inverts_encode_on_the_subspace(codec: LinearCodec) -> None:
    latents = torch.randn(3, 12, 4, 4, generator=torch.Generator().manual_seed(1))
    again = codec.encode(codec.decode(latents).sample).latent_dist.mean
    torch.testing.assert_close(again, latents, atol=2e-4, rtol=1e-4)


def test_error_equals_the_discarded_eigenvalues(codec: LinearCodec) -> None:
    pictures = smooth_pictures(64)
    centred = pictures.double() - pictures.double().mean(dim=(0, 2, 3))[:, None, None]
    patches = centred.reshape(64, 3, 4, 8, 4, 8).permute(0, 2, 4, 1, 3, 5).reshape(-1, 192)
    values = torch.linalg.svdvals(patches) ** 2
    expected = float(values[12:].sum() / pictures.numel())
    error = float((codec(pictures) - pictures).double().square().mean())
    assert error == pytest.approx(expected, rel=1e-3)


def test_all_components_reproduce_the_picture() -> None:
    pictures = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    full = LinearCodec.fit(pictures, latent_channels=192)
    torch.testing.assert_close(full(pictures), pictures, atol=1e-4, rtol=0)


def test_gradient_is_the_transpose(codec: LinearCodec) -> None:
    pictures = smooth_pictures(1).requires_grad_()
    cotangent = torch.randn(1, 12, 4, 4, generator=torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad(codec.encode(pictures).latent_dist.mean, pictures, cotangent)
    tangent = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        moved = codec.encode(pictures + tangent).latent_dist.mean - codec.encode(pictures).latent_dist.mean
    assert float((moved * cotangent).sum()) == pytest.approx(float((tangent * gradient).sum()), rel=1e-3)


def test_the_same_pictures_give_the_same_codec(codec: LinearCodec) -> None:
    again = LinearCodec.fit(smooth_pictures(64), latent_channels=12)
    for name, value in codec.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_it_survives_its_folder(codec: LinearCodec, tmp_path: Path) -> None:
    codec.save_pretrained(tmp_path)
    loaded = LinearCodec.from_pretrained(tmp_path)
    assert loaded.config.scaling_factor == codec.config.scaling_factor
    assert torch.equal(loaded(smooth_pictures(2)), codec(smooth_pictures(2)))


def test_a_patch_side_must_be_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="patch=6"):
        LinearCodec.fit(torch.zeros(1, 3, 12, 12), patch=6)
