"""The world's pictures agree with what they were asked to show, pixel for pixel."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from headstudio.camera import cameras_from_orbit, project
from headstudio.guidance.control import COLORS
from headstudio.head.landmarks import posed_landmarks
from headstudio.motion.arkit import pose_of, weights_of
from headstudio.synthetic import paint
from headstudio.synthetic.vocabulary import BEARDS, HAIR_STYLES, HAT_KINDS, Attributes
from headstudio.synthetic.world import World
from headstudio.types import Cameras

TARGET = (0.0, 0.12, 0.0)


def cameras(azimuth_deg: float | list[float], elevation_deg: float = 0.0) -> Cameras:
    return cameras_from_orbit(azimuth_deg, elevation_deg, 1.75, 54.0, 128, 128, TARGET)


@pytest.fixture(scope="module")
def world(sampler: Any) -> World:
    """Without supersampling, so that a pixel's colour belongs to its label alone."""
    return World(sampler.head, supersample=1)


def shape(world: World) -> torch.Tensor:
    return torch.zeros(world.head.num_shape)


COLORFUL = Attributes(
    skin="green", hair_color="purple", beard="goatee", beard_color="blue", lips="red", eyes="yellow", hat="cap"
)


@pytest.mark.parametrize(
    "looks", [COLORFUL, Attributes(), Attributes(skin="teal", hair_style="afro", lips="pink", beard="goatee")]
)
def test_regions_have_the_colours_of_the_palette_under_one_light(world: World, looks: Attributes) -> None:
    picture = world.render(looks, shape(world), world.head.neutral_pose(), cameras([-40.0, 0.0, 40.0]))
    rows = dict(zip(paint.PALETTE_ROWS, paint.palette(looks), strict=True))
    regions = {"skin": "skin", "hair": "hair", "beard": "beard", "lips": "lips", "iris": "eyes", "hat": "hat"}
    for label, row in regions.items():
        mask = picture.labels == paint.LABELS.index(label)
        if label in ("beard", "hat") and "none" in (looks.beard, looks.hat) and not mask.any():
            continue
        assert int(mask.sum()) > 30, label
        color = picture.rgb.permute(0, 2, 3, 1)[mask].median(0).values.numpy()
        light = color @ rows[row] / (rows[row] @ rows[row])
        assert 0.46 <= light <= 1.0, label
        np.testing.assert_allclose(color, light * rows[row], atol=0.05, err_msg=label)


def test_the_background_is_where_nothing_is(world: World) -> None:
    picture = world.render(COLORFUL, shape(world), world.head.neutral_pose(), cameras(0.0))
    outside = picture.labels[0] == paint.BACKGROUND
    assert bool((picture.rgb[0][:, outside] == 0.5).all())
    assert 0.3 < float(outside.float().mean()) < 0.8


def test_pictures_repeat_and_do_not_depend_on_what_else_is_painted(sampler: Any, world: World) -> None:
    looks = [Attributes(skin="blue"), COLORFUL, Attributes(lips="red"), COLORFUL]
    views, pose = cameras([10.0, 120.0]), world.head.neutral_pose()
    together = world.render_each(looks, shape(world), pose, views)
    fresh = World(sampler.head, supersample=1)
    for look, picture in zip(looks, together, strict=True):
        alone = fresh.render(look, shape(world), pose, views)
        assert torch.equal(alone.rgb, picture.rgb)
        assert torch.equal(alone.labels, picture.labels)


def test_one_pose_each_is_the_same_as_one_by_one(world: World) -> None:
    poses = pose_of(world.head, torch.stack([weights_of({"jawOpen": 0.8}), weights_of({"mouthSmile": 1.0})]))
    views = cameras([-30.0, 30.0])
    both = world.render(COLORFUL, shape(world), poses, views)
    single = pose_of(world.head, weights_of({"mouthSmile": 1.0})[None])
    second = world.render(COLORFUL, shape(world), single, cameras(30.0))
    assert float((both.rgb[1] - second.rgb[0]).abs().max()) < 1e-5


def test_the_pupil_landmark_lies_on_the_iris_and_the_control_shows_it_there(sampler: Any, world: World) -> None:
    head, views = world.head, cameras([-25.0, 0.0, 25.0])
    gaze = torch.tensor([[12.0, -6.0]])
    pose = pose_of(head, weights_of({"mouthSmile": 0.5})[None], gaze_deg=gaze, neck_deg=torch.tensor([[8.0, 5.0, 4.0]]))
    posed = head(shape(world), pose)
    labels = world.render(Attributes(), shape(world), pose, views).labels
    control = sampler.control.draw(posed, head, views)
    landmarks = posed_landmarks(head, posed)
    pixels, _ = project(landmarks.points, views)
    for name, first, _, _ in landmarks.polylines:
        if not name.endswith("pupil"):
            continue
        for b in range(len(views)):
            column, row = (int(v) for v in pixels[b, first])
            assert int(labels[b, row, column]) == paint.IRIS
            drawn = control[b, :, row - 1 : row + 2, column - 1 : column + 2].flatten(1)
            assert float((drawn - torch.tensor(COLORS[name])[:, None] / 255).abs().amax(0).min()) < 0.2


@pytest.mark.parametrize(
    ("looks", "label", "neck_deg"),
    [
        (Attributes(hat="top_hat"), paint.HAT, (0.0, 0.0, 12.0)),
        (Attributes(hat="cap"), paint.HAT, (25.0, 0.0, 0.0)),  # its brim
        (Attributes(hair_style="bun"), paint.HAIR, (0.0, 0.0, 12.0)),
        (Attributes(hair_style="afro"), paint.HAIR, (0.0, 0.0, 12.0)),
        (Attributes(beard="full"), paint.BEARD, (25.0, 0.0, 0.0)),
        (Attributes(beard="long"), paint.BEARD, (25.0, 0.0, 0.0)),
    ],
)
def test_what_is_worn_moves_with_the_neck(
    world: World, looks: Attributes, label: int, neck_deg: tuple[float, float, float]
) -> None:
    def column(neck: tuple[float, float, float], *labels: int) -> float:
        pose = pose_of(world.head, weights_of({})[None], neck_deg=torch.tensor([neck]))
        found = world.render(looks, shape(world), pose, cameras(0.0)).labels[0]
        return float(torch.nonzero(torch.isin(found, torch.tensor(labels)))[:, 1].float().mean())

    eyes = (paint.IRIS, paint.SCLERA)
    face = column(neck_deg, *eyes) - column((0.0, 0.0, 0.0), *eyes)
    worn = column(neck_deg, label) - column((0.0, 0.0, 0.0), label)
    assert face > 4.0  # pixels towards the subject's left
    assert worn > 0.3 * face


@pytest.mark.parametrize(("beard", "hat"), list(product(BEARDS, HAT_KINDS)))
def test_nothing_pokes_through_the_face(world: World, beard: str, hat: str) -> None:
    views, pose = cameras([-30.0, 0.0, 30.0]), world.head.neutral_pose()
    vertices = world.head(shape(world), pose).vertices
    nose = vertices[:, [int(world.rest[:, 2].argmax())]]
    pixels, _ = project(nose, views)
    for style in HAIR_STYLES:
        labels = world.render(Attributes(hair_style=style, beard=beard, hat=hat), shape(world), pose, views).labels
        found = [int(labels[b, int(pixels[b, 0, 1]), int(pixels[b, 0, 0])]) for b in range(3)]
        assert found == [paint.SKIN] * 3, style
        assert int((labels == paint.IRIS).sum()) > 30, style
        covered = beard in ("full", "long")  # their shell grows over the closed mouth
        assert covered or int((labels == paint.LIP).sum()) > 30, style


def test_long_beards_and_afros_leave_the_mesh(world: World) -> None:
    pose, views = world.head.neutral_pose(), cameras([0.0, 90.0])

    def area(**looks: str) -> int:
        return int((world.render(Attributes(**looks), shape(world), pose, views).labels > 0).sum())

    bald = area(hair_style="bald")
    assert area(hair_style="afro") > 1.25 * bald
    assert area(hair_style="bald", beard="long") > 1.02 * bald
    assert area(hair_style="short") > bald


def test_a_head_without_a_mouth_stays_closed_when_the_jaw_falls(world: World) -> None:
    pose = pose_of(world.head, weights_of({"jawOpen": 0.8})[None])
    near = cameras_from_orbit(0.0, 0.0, 1.75, 25.0, 96, 96, (0.0, -0.3, 0.3))
    looks = [Attributes(), Attributes(mouth="none")]
    with_mouth, without = world.render_each(looks, shape(world), pose, near)
    inside = torch.tensor([paint.MOUTH, paint.TEETH, paint.TONGUE])
    opening = torch.isin(with_mouth.labels, inside)
    assert int(opening.sum()) > 300
    assert not bool(torch.isin(without.labels, inside).any())
    assert bool((without.labels[opening] == paint.SKIN).all())
    around = with_mouth.labels == paint.SKIN
    changed = (with_mouth.rgb - without.rgb).abs().amax(1)[around] > 0.05
    assert float(changed.float().mean()) < 0.03
