"""Gradient rules against the formulas written out, and the loss against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstudio.guidance import sds

TEXT, NULL, NEG, NOISE, PLAIN = 2.0, 3.0, 5.0, 7.0, 11.0  # distinct primes, so that no two terms can be mistaken


def filled(value: float) -> Tensor:
    return torch.full((2, 1, 1, 1), value)


def predictions() -> sds.Predictions:
    return sds.Predictions(filled(TEXT), filled(NULL), filled(NEG), filled(PLAIN))


def gradient(rule: sds.Rule, timesteps: list[int], scale: float) -> list[float]:
    return rule(predictions(), filled(NOISE), torch.tensor(timesteps), scale).flatten().tolist()


@given(scale=st.integers(1, 100))
def test_sds_subtracts_the_noise(scale: int) -> None:
    assert gradient(sds.Sds(), [0, 999], scale) == [NULL + scale * (TEXT - NULL) - NOISE] * 2


@given(scale=st.integers(1, 100))
def test_denoised_subtracts_the_negative_prediction_above_the_threshold_only(scale: int) -> None:
    guided = NULL + scale * (TEXT - NULL)
    rule = sds.Denoised(negative_above=200)
    assert gradient(rule, [200, 201], scale) == [guided - NOISE, guided - NEG]
    assert gradient(rule, [5, 999], scale) == [guided - NOISE, guided - NEG]


@given(scale=st.integers(1, 100))
def test_nfsd_never_subtracts_the_noise(scale: int) -> None:
    rule = sds.Nfsd(negative_from=200)
    low, high = scale * (TEXT - NULL) + NULL, scale * (TEXT - NULL) + NULL - NEG
    assert gradient(rule, [199, 200], scale) == [low, high]


def test_nfsd_and_denoised_agree_at_high_noise() -> None:
    assert gradient(sds.Nfsd(negative_from=200), [900, 300], 7.5) == gradient(
        sds.Denoised(negative_above=200), [900, 300], 7.5
    )


def test_a_rule_ignores_what_it_did_not_ask_for() -> None:
    poison = filled(float("nan"))
    poisoned = sds.Predictions(filled(TEXT), filled(NULL), poison, poison)
    timesteps = torch.tensor([10, 150])
    for rule in (sds.Sds(), sds.Denoised(negative_above=200), sds.Nfsd(negative_from=200)):
        assert not rule.needs_negative(timesteps).any()
        assert not rule.needs_plain
        assert bool(rule(poisoned, filled(NOISE), timesteps, 7.5).isfinite().all())


def test_scale_one_is_no_guidance() -> None:
    assert sds.guided(filled(TEXT), filled(NULL), 1.0).flatten().tolist() == [TEXT, TEXT]


def test_weights() -> None:
    alpha_bar = torch.tensor([0.25, 1.0])
    assert sds.noise_variance(alpha_bar).tolist() == [0.75, 0.0]
    assert sds.uniform(alpha_bar).tolist() == [1.0, 1.0]
    assert sds.signal_times_noise_variance(alpha_bar).tolist() == [0.375, 0.0]


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_the_losss_gradient_is_exactly_the_rules_over_the_batch(batch: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    latents = (torch.randn(batch, 4, 8, 8, generator=generator) * 1e4).requires_grad_()
    wanted = torch.randn(batch, 4, 8, 8, generator=generator) * 1e-4
    loss = sds.score_distillation_loss(latents, wanted)
    loss.backward()
    assert latents.grad is not None
    assert torch.equal(latents.grad, wanted / batch)


def test_the_losss_value_is_the_reparametrisations() -> None:
    latents, wanted = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(3, 4, 8, 8)
    reference = 0.5 * torch.nn.functional.mse_loss(latents, latents - wanted, reduction="sum") / 3
    torch.testing.assert_close(sds.score_distillation_loss(latents, wanted), reference)
