"""Close views: aimed at their region, at the distance of the view they replace, and named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from headstudio.camera import project, select
from headstudio.camera_crops import CropSampler
from headstudio.cli import conf_dir
from headstudio.errors import UserError


def sampler(**changes: Any) -> CropSampler:
    overrides = [f"camera.{key}={value}" for key, value in changes.items()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", ["camera=crops", *overrides])
    made = instantiate(config.camera, _convert_="all")
    assert isinstance(made, CropSampler)
    return made


def test_a_close_view_shows_its_region_in_the_middle_and_nothing_else_changes() -> None:
    crops = sampler(crop_fraction=0.5, target_jitter=0.0)
    cameras = crops(0, torch.Generator().manual_seed(3))
    for _ in range(8):
        whole = sampler(crop_fraction=0.0)(0, torch.Generator().manual_seed(3))
        assert whole.crops == ("",) * len(whole)
        for index, name in enumerate(cameras.crops):
            one = select(cameras, index)
            assert one.crops == (name,)
            if not name:
                assert torch.equal(one.camera_from_world, whole.camera_from_world[index : index + 1])
                continue
            target = crops.targets[crops.names.index(name)]
            pixels, depth = project(target[None, None], one)
            torch.testing.assert_close(pixels[0, 0], torch.tensor([one.width / 2, one.height / 2]), atol=1e-2, rtol=0)
            assert 1.70 <= float(depth) <= 1.80
            assert abs(float(one.azimuth_deg)) <= 50
    assert {"", "eyes", "mouth"} >= set(cameras.crops)


def test_close_views_come_as_often_as_asked() -> None:
    crops = sampler(crop_fraction=0.25)
    generator = torch.Generator().manual_seed(0)
    names = [name for step in range(400) for name in crops(step, generator).crops]
    for name, share in (("", 0.75), ("eyes", 0.125), ("mouth", 0.125)):
        assert names.count(name) / len(names) == pytest.approx(share, abs=0.03)
    again = sampler(crop_fraction=0.25)(0, torch.Generator().manual_seed(0))
    assert torch.equal(again.intrinsics, crops(0, torch.Generator().manual_seed(0)).intrinsics)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"crop_fraction": 1.5}, r"camera\.crop_fraction=1\.5 must lie between 0 and 1"),
        ({"regions.eyes.fovy_deg_range": "[30,20]"}, r"camera\.regions\.eyes\.fovy_deg_range=\[30"),
    ],
)
def test_bad_values_are_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception, match=sentence) as raised:
        sampler(**changes)
    assert isinstance(raised.value.__cause__ or raised.value, UserError)
