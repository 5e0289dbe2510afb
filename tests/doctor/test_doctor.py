"""The doctor's page, line by line: on a machine that has nothing, on one with stand-ins, on damaged ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import run

from headstudio.doctor.setting import examine
from headstudio.findings import State
from headstudio.guidance import memory
from headstudio.standins.__main__ import write_all
from headstudio.standins.diffusion import write_prior

OURS = ("HEADSTUDIO_FLAME", "HEADSTUDIO_MOTION", "HEADSTUDIO_RV51", "HEADSTUDIO_RV51_VAE", "HEADSTUDIO_CONTROLNET")
REHEARSAL = ("experiment=paper", "scale=smoke", "metrics=tiny_clip")


def own(folder: Path, **variables: str) -> dict[str, str]:
    """These variables, without any other that tells where something is."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HEADSTUDIO_", "HF_", "WANDB_"))}
    return env | {"NETRC": str(folder / "none"), "CUDA_VISIBLE_DEVICES": "", **variables}


def doctor(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it in an empty folder, without a network, and with these variables only."""
    return run("headstudio.doctor.__main__", *words, cwd=folder, env=own(folder, **variables))


def told(folder: Path, *words: str, **variables: str) -> dict[str, Any]:
    """The one setting of these words, from --json: its findings by what they are about."""
    ran = doctor(folder, "--json", *words, **variables)
    assert ran.returncode in (0, 1), ran.stderr
    (setting,) = json.loads(ran.stdout)["settings"]
    assert setting["runs"] == (ran.returncode == 0)
    setting["findings"] = {finding["what"]: finding for finding in setting["findings"]}
    return dict(setting)


@pytest.fixture(scope="module")
def standins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that point to stand-ins."""
    env = write_all(tmp_path_factory.mktemp("standins"), divisor=10, sample_size=16)
    return dict(line.removeprefix("export ").split("=", 1) for line in env.read_text().splitlines())


@pytest.mark.slow
def test_a_bare_machine(tmp_path: Path) -> None:
    """In an interpreter of its own, with an empty cache of models, and allowed to fill it."""
    env = own(tmp_path, HF_HOME=str(tmp_path / "cache"))
    command = [sys.executable, "-m", "headstudio.doctor"]
    page = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert page.returncode == 0, page.stderr  # the default can run
    lines = page.stdout.splitlines()
    verdict = {line.split("python -m ")[1].split("  ")[0]: line for line in lines if line[:6] in ("  yes ", "  no  ")}
    assert verdict["headstudio.run"].split() == ["yes", "python", "-m", "headstudio.run"]
    for name in ("paper", "official"):
        said = verdict[f"headstudio.run experiment={name}"]
        assert said.startswith("  no")
        assert said.endswith("lacks GPU for this size, FLAME 2020 generic, recorded motion")
    flame = next(i for i, line in enumerate(lines) if "FLAME 2020 generic" in line)
    assert lines[flame].startswith("  missing")
    assert lines[flame + 1].startswith("           -> register at https://flame.is.tue.mpg.de")
    assert sum("from the Hugging Face hub" in " ".join(lines[i : i + 2]) for i in range(len(lines))) >= 3
    assert not (tmp_path / "cache").exists()  # it looked, and made nothing
    assert page.stderr == ""


@pytest.mark.slow
def test_a_bare_machine_without_a_network(tmp_path: Path) -> None:
    said = told(tmp_path, "experiment=paper")
    states = {what: finding["state"] for what, finding in said["findings"].items()}
    assert states == {
        "GPU for this size": "missing",
        "FLAME 2020 generic": "missing",
        "Diffusion model SG161222/Realistic_Vision_V5.1_noVAE": "missing",
        "Its VAE stabilityai/sd-vae-ft-mse": "missing",
        "ControlNet CrucibleAI/ControlNetMediaPipeFace": "missing",
        "Recorded motion": "missing",
        "CLIP model clip_l14": "missing",
        "CLIP model clip_b16": "missing",
        "CLIP model clip_b32": "missing",
    }
    assert all(finding["remedy"] for finding in said["findings"].values())
    assert "hf download SG161222" in said["findings"]["Diffusion model SG161222/Realistic_Vision_V5.1_noVAE"]["remedy"]


@pytest.mark.slow
def test_a_machine_with_stand_ins(tmp_path: Path, standins: dict[str, str]) -> None:
    said = told(tmp_path, *REHEARSAL, **standins)
    assert said["runs"]
    details = {what: finding["detail"] for what, finding in said["findings"].items() if finding["state"] == "ok"}
    flame, models = Path(standins["HEADSTUDIO_FLAME"]), Path(standins["HEADSTUDIO_RV51"]).parent
    assert details["FLAME 2020 generic"].startswith(str(flame / "generic_model.pkl"))
    assert details["FLAME's landmarks"] == str(flame / "mediapipe_landmark_embedding.npz")
    assert details["FLAME's masks"] == str(flame / "FLAME_masks.pkl")
    assert details["Recorded motion"].startswith(standins["HEADSTUDIO_MOTION"])
    for what in ("Diffusion model", "Its VAE", "ControlNet"):
        (name,) = [name for name in details if name.startswith(what)]
        assert str(models) in name
        assert details[name] == "here"
    assert not any(finding["state"] in ("missing", "broken", "fetch") for finding in said["findings"].values())
    full = told(tmp_path, "experiment=paper", "metrics=none", **standins)
    assert [what for what, f in full["findings"].items() if f["state"] == "missing"] == ["GPU for this size"]


@pytest.mark.slow
def test_damaged_and_foreign_files(tmp_path: Path, standins: dict[str, str]) -> None:
    cut = tmp_path / "flame"
    cut.mkdir()
    whole = Path(standins["HEADSTUDIO_FLAME"]) / "generic_model.pkl"
    (cut / "generic_model.pkl").write_bytes(whole.read_bytes()[:100_000])
    said = told(tmp_path, *REHEARSAL, **standins | {"HEADSTUDIO_FLAME": str(cut)})
    assert said["findings"]["FLAME 2020 generic"]["state"] == "broken"
    said = told(tmp_path, *REHEARSAL, **standins | {"HEADSTUDIO_CONTROLNET": str(cut)})
    (name,) = [name for name in said["findings"] if name.startswith("ControlNet")]
    assert said["findings"][name]["state"] == "missing"
    assert "diffusion_sd15/config.json" in said["findings"][name]["detail"]


def test_parts_that_do_not_belong_together(tmp_path: Path, standins: dict[str, str]) -> None:
    """A ControlNet of another model is all there, and still nothing can run."""
    foreign = write_prior(tmp_path, "sd21", divisor=10, sample_size=16)
    words = (*REHEARSAL, "prior.controlnet_subfolder=null")
    said = told(tmp_path, *words, **standins | {"HEADSTUDIO_CONTROLNET": str(foreign.controlnet_path)})
    assert not said["runs"]
    assert said["findings"]["The prior's parts"]["state"] == "broken"
    assert "ControlNet" in said["findings"]["The prior's parts"]["detail"]


@pytest.mark.parametrize(
    ("gigabytes", "words", "state", "detail"),
    [
        (48.0, (), State.READY, r"about \d+ of 48 GB"),
        (3.1, ("memory=48gb",), State.LACKING, r"needs about \d+ GB of GPU memory and the GPU has 3 GB"),
    ],
)
def test_the_memory_of_a_gpu(
    standins: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    gigabytes: float,
    words: tuple[str, ...],
    state: State,
    detail: str,
) -> None:
    for name, value in standins.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(memory, "total_gb", lambda device: gigabytes)
    setting = examine(("experiment=paper", "metrics=none", *words), gpu=True)
    (found,) = [finding for finding in setting.findings if finding.what == "GPU memory"]
    assert found.state is state
    assert re.search(detail, found.detail)
    assert "GPU for this size" not in {finding.what for finding in setting.findings}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--jsn",), "--jsn is neither --json nor a setting"),
        (("paper",), "paper is neither --json nor a setting"),
        (("experiment=papers",), "experiment=papers does not exist: experiment is one of"),
        (("scale.steps=0",), "scale.steps=0 must be a whole number of at least 1."),
        (("scale.stepz=1",), "scale.stepz is not a key of this setting."),
    ],
)
def test_what_is_no_setting(tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    ran = doctor(tmp_path, *words)
    assert ran.returncode == 2
    assert ran.stderr.startswith(sentence)
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stdout == ""


@pytest.mark.slow
def test_a_run_names_everything_that_it_lacks_before_it_makes_anything(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    ran = run("headstudio.run", "experiment=paper", "hydra.run.dir=run", cwd=tmp_path, env=env)
    assert ran.returncode == 2
    (sentence,) = ran.stderr.strip().splitlines()
    for name in (
        "FLAME 2020 generic",
        "Realistic_Vision",
        "sd-vae-ft-mse",
        "ControlNetMediaPipeFace",
        "Recorded motion",
    ):
        assert name in sentence
    assert sentence.endswith("python -m headstudio.doctor with the same options says how to get them.")
    assert not (tmp_path / "run").exists()
