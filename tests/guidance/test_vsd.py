"""Variational score distillation: what the student is at first, that it learns, and that nothing of it gets lost."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from headstudio import run
from headstudio.cli import conf_dir
from headstudio.errors import UserError
from headstudio.guidance import sds
from headstudio.guidance.debias import VIEWS
from headstudio.guidance.distill import ScoreDistillation
from headstudio.guidance.noising import Conditions, noised
from headstudio.guidance.prior import Prior
from headstudio.guidance.prompts import ViewPrompts
from headstudio.guidance.vsd import LoraStudent
from headstudio.interrupt import Interrupted
from headstudio.log import JsonlLogger
from headstudio.runstate import RunPaths, load_checkpoint
from headstudio.types import Cameras

BATCH, SCALE = 3, 6.0
Builder = Callable[..., dict[str, Any]]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def cameras() -> Cameras:
    turned = torch.eye(4).repeat(BATCH, 1, 1)
    turned[:, 2, 3] = torch.tensor([1.0, 2.0, 3.0])
    return Cameras(
        camera_from_world=turned,
        intrinsics=torch.eye(3).expand(BATCH, 3, 3),
        azimuth_deg=torch.tensor([0.0, 90.0, 180.0]),
        elevation_deg=torch.zeros(BATCH),
        width=64,
        height=64,
    )


def make(components: dict[str, Any], *, student: bool = True, rate: float = 1e-2, **changes: Any) -> ScoreDistillation:
    """A distillation over components of its own: adapters change the UNet that they are put into."""
    prior = Prior(**components)
    prompts = ViewPrompts(
        prior,
        prompt="a red head",
        negative_prompt="",
        view_text={view: f"{{prompt}}, {view} view" for view in VIEWS},
        crop_text={},
        front_within_deg=45.0,
        back_beyond_deg=135.0,
        overhead_above_deg=60.0,
    )
    settings: dict[str, Any] = {
        "rule": sds.Sds(),
        "weighting": sds.noise_variance,
        "guidance_scale": SCALE,
        "conditioning_scale": 0.7,
        "min_timestep": 20,
        "max_timestep": 980,
        "use_control": True,
        "student": partial(LoraStudent, rank=2, learning_rate=rate, camera_dropout=0.1) if student else None,
    }
    return ScoreDistillation(prior, prompts, **{**settings, **changes})


def gradient(guidance: ScoreDistillation, rgb: Tensor, control: Tensor, cameras: Cameras, source: Any) -> Tensor:
    return torch.autograd.grad(guidance(rgb, control, cameras, 0, source).loss, rgb)[0]


def test_at_first_the_student_is_the_prior(
    build: Builder, components: dict[str, Any], rgb: Tensor, control: Tensor, cameras: Cameras
) -> None:
    """So the first gradient is that of self score distillation: guided minus unguided prediction of one model.

    The student's first weights come from the run's generator before pictures and noise are drawn by the next call.
    """
    guidance = make(build())
    assert isinstance(guidance.student, LoraStudent)
    guidance.student.begin(generator(9))
    found = gradient(guidance, rgb, control, cameras, generator())
    expected = gradient(make(components, student=False, rule=sds.Ssd()), rgb, control, cameras, generator())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)
    later = gradient(guidance, rgb, control, cameras, generator())
    assert float((later - expected).norm()) > 1e-3 * float(expected.norm())  # it has learnt


def test_the_priors_own_predictions_stay_what_they_are(
    build: Builder, components: dict[str, Any], rgb: Tensor, control: Tensor, cameras: Cameras
) -> None:
    bare, guidance = Prior(**components), make(build())
    asked = (
        torch.randn(BATCH, 6, 8, 8, generator=generator(3)),
        torch.tensor([10, 500, 900]),
        guidance.prompts(cameras).text,
        control,
        0.7,
    )
    expected = bare.predict_noise(*asked)
    assert torch.equal(guidance.prior.predict_noise(*asked), expected)
    before = {name: value.clone() for name, value in bare.unet.state_dict().items()}
    for _ in range(3):
        guidance(rgb, control, cameras, 0, generator())
    assert torch.equal(guidance.prior.predict_noise(*asked), expected)
    after = {name.replace("base_layer.", ""): value for name, value in guidance.prior.unet.state_dict().items()}
    assert set(before) < set(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_student_learns_fixed_pictures(
    build: Builder, rgb: Tensor, control: Tensor, cameras: Cameras, prediction_type: str
) -> None:
    guidance = make(build(prediction_type))
    student = guidance.student
    assert isinstance(student, LoraStudent)
    student.begin(generator(0))
    given = Conditions(guidance.prompts(cameras), control, cameras, 0.7)
    latents = guidance.prior.encode_images(rgb).detach()
    losses = [float(student.learn(latents, given, generator(5))) for _ in range(60)]
    assert losses[-1] < 0.98 * losses[0]  # of a random UNet only the attention learns
    assert len({tuple(value.shape) for value in student.lora.adapters.values()}) > 1
    assert all(bool(value.any()) for value in student.lora.parameters())  # every weight takes part
    seen = noised(guidance.prior, latents, torch.tensor([300, 300, 300]), generator(6))
    here = student.predict(seen, given)
    elsewhere = student.predict(seen, Conditions(given.texts, control, _moved(cameras), 0.7))
    assert float((here - elsewhere).norm()) > 1e-3 * float(here.norm())  # the camera tells it something


def _moved(cameras: Cameras) -> Cameras:
    return Cameras(**{**vars(cameras), "camera_from_world": cameras.camera_from_world.flip(0) * 2})


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_its_loss_is_that_of_the_models_own_target(
    build: Builder, rgb: Tensor, control: Tensor, cameras: Cameras, prediction_type: str
) -> None:
    """Computed from the UNet's raw output and diffusers' target."""
    guidance = make(build(prediction_type))
    prior, student = guidance.prior, guidance.student
    assert isinstance(student, LoraStudent)
    student.begin(generator(0))
    given = Conditions(guidance.prompts(cameras), None, cameras, 0.7)
    latents = prior.encode_images(rgb).detach()
    raw: list[Tensor] = []
    hook = prior.unet.register_forward_hook(lambda *call: raw.append(call[-1][0].detach()))
    found = float(student.learn(latents, given, generator(5)))
    hook.remove()
    source = generator(5)
    timesteps = torch.randint(0, prior.num_timesteps, (BATCH,), generator=source)
    noise = torch.randn(latents.shape, generator=source)
    target = noise if prediction_type == "epsilon" else prior.scheduler.get_velocity(latents, noise, timesteps)
    assert found == pytest.approx(float((raw[0] - target).square().mean()), rel=1e-4)


def test_groups_that_fit_the_memory_teach_the_same(
    build: Builder, rgb: Tensor, control: Tensor, cameras: Cameras
) -> None:
    learnt = []
    calls = {None: [3] * 4, 16: [2, 1] * 3 + [3], 2: [1] * 9 + [2, 1]}  # three times learning, one prediction
    for unet_rows in calls:
        guidance, rows = make(build(), rate=1e-3), []
        guidance.prior.memory = replace(guidance.prior.memory, unet_rows=unet_rows)
        student = guidance.student
        assert isinstance(student, LoraStudent)
        student.begin(generator(0))
        given = Conditions(guidance.prompts(cameras), control, cameras, 0.7)
        latents = guidance.prior.encode_images(rgb).detach()
        hook = guidance.prior.unet.register_forward_pre_hook(lambda _, call, rows=rows: rows.append(len(call[0])))
        losses = [student.learn(latents, given, generator(5)) for _ in range(3)]
        seen = noised(guidance.prior, latents, torch.tensor([300, 500, 700]), generator(6))
        learnt.append((torch.stack(losses), student.predict(seen, given)))
        hook.remove()
        assert rows == calls[unet_rows]
    for limited in learnt[1:]:
        for whole, parts in zip(learnt[0], limited, strict=True):
            torch.testing.assert_close(parts, whole, atol=1e-4, rtol=1e-3)


def test_half_precision_learns_in_full(build: Builder, rgb: Tensor, control: Tensor, cameras: Cameras) -> None:
    components = build()
    for name in ("unet", "controlnet", "text_encoder"):
        components[name].to(torch.bfloat16)
    guidance = make(components)
    student = guidance.student
    assert isinstance(student, LoraStudent)
    losses = [float(guidance(rgb, control, cameras, 0, generator(4)).info["student_loss"]) for _ in range(20)]
    assert losses[-1] < losses[0]
    assert {value.dtype for value in student.lora.parameters()} == {torch.float32}
    frozen = {value.dtype for value in guidance.prior.unet.parameters() if not value.requires_grad}
    assert torch.bfloat16 in frozen


def test_in_float16_the_gradient_is_that_of_float32(build: Builder, cameras: Cameras) -> None:
    """The mean over many numbers has a gradient too small for float16: unscaled, half of the adapters turn away."""

    def learnt(dtype: torch.dtype) -> list[Tensor]:
        components = build("epsilon")
        components["unet"].to(dtype)
        guidance = make(components)
        student = guidance.student
        assert isinstance(student, LoraStudent)
        student.begin(generator(0))
        for name, value in student.lora.adapters.items():
            if "lora_B" in name:  # at first zero, and the other factor has no gradient
                value.data.normal_(0, 0.1, generator=generator(1))
        given = Conditions(guidance.prompts(cameras), None, cameras, 0.7)
        student.learn(torch.randn(BATCH, 6, 32, 32, generator=generator(2)), given, generator(3))
        return [value.grad for value in student.lora.parameters() if value.grad is not None]

    pairs = list(zip(learnt(torch.float16), learnt(torch.float32), strict=True))
    assert len(pairs) > 60
    for half, full in pairs:
        torch.testing.assert_close(half, full, rtol=0, atol=0.02 * float(full.abs().max()))


@pytest.mark.slow
def test_a_compiled_unet_has_its_adapters_and_cameras_in_their_turn(
    build: Builder, control: Tensor, cameras: Cameras
) -> None:
    """As `memory.compile=true` does it, without generating code: neither hook nor switch is compiled in for good."""
    guidance = make(build())
    prior, student = guidance.prior, guidance.student
    assert isinstance(student, LoraStudent)
    student.begin(generator(0))
    for value in student.lora.parameters():
        value.data.normal_(0, 0.1, generator=generator(1))
    given = Conditions(guidance.prompts(cameras), control, cameras, 0.7)
    latents = torch.randn(BATCH, 6, 8, 8, generator=generator(2))
    seen = noised(prior, latents, torch.tensor([300, 500, 700]), generator(3))

    def predictions() -> list[Tensor]:
        bare = prior.predict_noise(seen.noisy, seen.timesteps, given.texts.plain, control, 0.7)
        moved = replace(given, cameras=_moved(cameras))
        return [bare, student.predict(seen, given), student.predict(seen, moved), student.predict(seen, given)]

    expected = predictions()
    prior.unet.compile(backend="eager")
    for found, plain in zip(predictions(), expected, strict=True):
        torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-4)
    assert float((expected[1] - expected[2]).norm()) > 1e-3 * float(expected[1].norm())


def test_a_checkpoint_holds_all_that_was_learnt(build: Builder, rgb: Tensor, control: Tensor, cameras: Cameras) -> None:
    """Two steps, a checkpoint through a file, two more: the same bytes as four steps."""

    def steps(guidance: ScoreDistillation, count: int, source: torch.Generator) -> list[Tensor]:
        return [gradient(guidance, rgb, control, cameras, source) for _ in range(count)]

    whole, source = make(build()), generator()
    expected = steps(whole, 4, source)
    first, resumed, source = make(build()), make(build()), generator()
    early = steps(first, 2, source)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    found = early + steps(resumed, 2, source)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    files = [io.BytesIO(), io.BytesIO()]
    for file, guidance in zip(files, (resumed, whole), strict=True):
        torch.save(guidance.state_dict(), file)
    assert files[0].getvalue() == files[1].getvalue()


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """The whole loop over the shipped prior, stopped in the middle and started again."""
    run.register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=["scale=smoke", "guidance=vsd", "scale.steps=4"])

    def fit(folder: Path, stop_in: int | None = None) -> None:
        parts, paths = run.build(config), RunPaths(folder)
        if stop_in is not None:
            parts = replace(parts, guidance=Stops(parts.guidance, stop_in))  # type: ignore[arg-type]
        saved = load_checkpoint(paths.checkpoint, "abc") if paths.checkpoint.exists() else None
        run.make(config.trainer).fit(parts, paths, "abc", JsonlLogger(folder / "metrics.jsonl"), saved)

    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    fit(tmp_path / "whole")
    with pytest.raises(Interrupted):
        fit(tmp_path / "halves", stop_in=1)
    fit(tmp_path / "halves")
    whole, halves = (torch.load(tmp_path / name / "checkpoint", weights_only=True) for name in ("whole", "halves"))
    assert halves["step"] == 4
    assert any(bool(value.any()) for name, value in whole["guidance"]["lora"]["adapters"].items() if "lora_B" in name)
    assert same(halves, whole)


class Stops:
    """A guidance that presses Ctrl-C in one of its steps."""

    def __init__(self, inner: ScoreDistillation, stop_in: int) -> None:
        self.inner, self.stop_in, self.use_control = inner, stop_in, inner.use_control

    def __call__(self, rgb: Tensor, control: Tensor, cameras: Cameras, step: int, source: torch.Generator) -> Any:
        if step == self.stop_in:
            os.kill(os.getpid(), signal.SIGINT)
        return self.inner(rgb, control, cameras, step, source)

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()


def same(one: Any, other: Any) -> bool:
    """Bitwise equality of nested states."""
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_all_chance_comes_from_the_generator(build: Builder, rgb: Tensor, control: Tensor, cameras: Cameras) -> None:
    before = torch.get_rng_state()
    one = make(build())
    first = gradient(one, rgb, control, cameras, generator(0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    try:
        again = make(build())
        assert torch.equal(gradient(again, rgb, control, cameras, generator(0)), first)
    finally:
        torch.set_rng_state(before)
    weights = [
        torch.cat([value.detach().flatten() for value in guidance.student.lora.parameters()])  # type: ignore[union-attr]
        for guidance in (one, again)
    ]
    assert torch.equal(*weights)


def test_nobody_learns_without_a_student(
    components: dict[str, Any], rgb: Tensor, control: Tensor, cameras: Cameras
) -> None:
    plain = make(components, student=False)
    assert plain.state_dict() == {}
    assert set(plain(rgb, control, cameras, 0, generator()).info) == {"timestep", "gradient_norm"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"rank": 0}, "rank=0"), ({"learning_rate": 0.0}, "learning_rate=0"), ({"camera_dropout": 1.5}, "1.5")],
)
def test_impossible_settings_are_named(components: dict[str, Any], changes: dict[str, float], named: str) -> None:
    settings: dict[str, Any] = {"rank": 4, "learning_rate": 1e-4, "camera_dropout": 0.1}
    with pytest.raises(UserError, match=named):
        LoraStudent(Prior(**components), **{**settings, **changes})
