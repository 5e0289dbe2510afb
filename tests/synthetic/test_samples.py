"""What training may see, and what it leaves for the test of the prior."""

from __future__ import annotations

import numpy as np
import pytest

from headstudio.synthetic.samples import ShapeSampler, is_held_out, random_attributes, training_attributes
from headstudio.synthetic.vocabulary import OPTIONS, Attributes, consistent


def test_held_out_pairs_never_train_but_their_parts_do() -> None:
    rng = np.random.default_rng(0)
    drawn = [training_attributes(rng) for _ in range(3000)]
    assert not any(is_held_out(looks) for looks in drawn)
    pairs = [(skin, hair) for skin in OPTIONS["skin"] for hair in OPTIONS["hair_color"]]
    held_out = [pair for pair in pairs if is_held_out(Attributes(skin=pair[0], hair_color=pair[1]))]
    assert len(held_out) == len(pairs) / 10
    assert {looks.skin for looks in drawn} >= {skin for skin, _ in held_out}
    assert {looks.hair_color for looks in drawn} >= {hair for _, hair in held_out}


def test_every_option_is_common_and_looks_are_consistent() -> None:
    rng = np.random.default_rng(1)
    drawn = [random_attributes(rng) for _ in range(3000)]
    assert all(consistent(looks) == looks for looks in drawn)
    for name, options in OPTIONS.items():
        counts = {option: sum(getattr(looks, name) == option for looks in drawn) for option in options}
        assert min(counts.values()) > 15, counts


@pytest.mark.parametrize(("age", "sign"), [("young", -1), ("adult", 0), ("old", 1)])
def test_age_and_gender_show_in_the_shape(age: str, sign: int) -> None:
    shape = ShapeSampler(age_step=0.8, gender_step=0.8, spread=0.6)
    rng = np.random.default_rng(2)
    drawn = np.stack([shape(Attributes(age=age, gender="woman"), 12, rng).numpy() for _ in range(200)])
    assert drawn[:, 0].mean() == pytest.approx(0.8 * sign, abs=0.05)
    assert drawn[:, 1].mean() == pytest.approx(0.8, abs=0.05)
    assert drawn[:, 3:].std() == pytest.approx(0.6, rel=0.1)
