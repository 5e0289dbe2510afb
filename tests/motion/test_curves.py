"""Oracles: the dominance model written out, sound by sound, and what strength and hold promise."""

from __future__ import annotations

import math

import torch

from headstudio.motion.curves import coarticulated


def test_it_is_the_dominance_model() -> None:
    """Cohen and Massaro 1993: a mean of faces, weighted by exponentials of the time away."""
    generator = torch.Generator().manual_seed(0)
    centres, spans, efforts = (torch.rand(5, generator=generator) + 0.1 for _ in range(3))
    faces, times = torch.rand(5, 3, generator=generator), torch.tensor([0.0, 0.4, 1.3])
    for time, face in zip(times.tolist(), coarticulated(times, centres, spans, faces, efforts), strict=True):
        pairs = zip(centres.tolist(), spans.tolist(), strict=True)
        rule = [math.exp(-2.0 * math.sqrt(0.25 + ((time - c) / s) ** 2)) for c, s in pairs]
        rows = zip(rule, efforts.tolist(), faces.tolist(), strict=True)
        shares = [[d / sum(rule) * e * value for value in row] for d, e, row in rows]
        torch.testing.assert_close(face, torch.tensor(shares).sum(0))


def test_nothing_held_and_nothing_stronger_changes_nothing() -> None:
    centres, ones = torch.tensor([0.0, 0.3, 0.5]), torch.ones(3)
    times, faces = torch.linspace(-1.0, 1.0, 50), torch.eye(3)
    plain = coarticulated(times, centres, 0.1 * ones, faces, ones)
    assert torch.equal(
        plain, coarticulated(times, centres, 0.1 * ones, faces, ones, holds=0 * ones, strengths=0 * ones)
    )


def test_a_strong_sound_shows_its_face_whole_and_a_held_one_keeps_it() -> None:
    centres, spans, ones = torch.tensor([0.0, 0.1, 0.2]), torch.full((3,), 0.06), torch.ones(3)
    faces = torch.eye(3)
    weak = coarticulated(centres, centres, spans, faces, ones)[1, 1]
    strong = coarticulated(centres, centres, spans, faces, ones, strengths=torch.tensor([0.0, 3.0, 0.0]))[1, 1]
    assert weak < 0.9 < 0.99 < strong
    times = torch.tensor([0.08, 0.1, 0.12])
    held = coarticulated(times, centres, spans, faces, ones, holds=torch.tensor([0.0, 0.03, 0.0]))[:, 1]
    free = coarticulated(times, centres, spans, faces, ones)[:, 1]
    assert float(held.max() - held.min()) < float(free.max() - free.min())
