"""The wheel is all that a user needs: built, installed into a fresh venv and run from an empty folder."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = {
    "config.yaml",
    "metrics.json",
    "metrics.jsonl",
    "turntable.mp4",
    "animation.mp4",
    "grid.png",
    "avatar.ply",
    "checkpoint",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with the wheel. Its dependencies are borrowed from this one, minus headstudio itself, to save 7 GB."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    interpreter = folder / "bin" / "python"
    where = [str(interpreter), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    packages = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    # Plain paths only: the lines of the other venv's own .pth files (an editable headstudio) are not followed
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--no-deps", "--quiet", str(wheel)]
    subprocess.run([*install, "--ignore-installed"], check=True)
    return interpreter


@pytest.mark.slow
def test_the_wheel_carries_settings_assets_types_and_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in (*ROOT.joinpath("conf").rglob("*.yaml"), *ROOT.joinpath("ablations").glob("*.yaml")):
        assert f"headstudio/{file.relative_to(ROOT)}" in names
    for part in ("assets", "report/page", "export/web", "speech", "tracking"):
        for file in ROOT.joinpath("headstudio", part).rglob("*"):
            assert file.is_dir() or "__pycache__" in file.parts or str(file.relative_to(ROOT)) in names
    for file in ROOT.joinpath("launchers", "hydra_plugins").rglob("*.yaml"):
        assert str(file.relative_to(ROOT / "launchers")) in names
    assert "hydra_plugins/headstudio_launchers/launcher.py" in names
    assert "hydra_plugins/__init__.py" not in names  # a namespace that other Hydra plugins share
    assert "headstudio/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert not any(name.startswith(("tests/", "conf/")) for name in names)


@pytest.mark.slow
def test_the_installed_package_makes_a_head_in_an_empty_folder(python: Path, tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "HYDRA_FULL_ERROR")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(python), *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert str(python.parent.parent) in run("-c", "import headstudio; print(headstudio.__file__)")
    run("-m", "headstudio.run", "scale=smoke", "prompt=a head with green skin and purple hair")
    (folder,) = (tmp_path / "outputs").iterdir()
    assert {p.name for p in folder.iterdir()} >= OUTPUTS
    assert all((folder / name).stat().st_size > 0 for name in OUTPUTS)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["gaussians"] > 0
    assert metrics["seconds"] > 0

    swept = run("-m", "headstudio.run", "-m", "seed=1", "scale=smoke", "metrics=none", "hydra.sweep.dir=sweep")
    assert "1 run in" in " ".join(swept.split())
    assert "1 run: 1 finished" in run("-m", "headstudio.sweep", "status", "sweep")
    assert len(list((tmp_path / "sweep").glob("*/avatar.ply"))) == 1

    again = run("-m", "headstudio.run", "scale=smoke", "prompt=a head with green skin and purple hair")
    assert "Already finished" in again
    load = f"""
from pathlib import Path
from headstudio.export.ply import load_avatar
from headstudio.head.anny import load_anny
print(load_avatar(Path({str(folder / "avatar.ply")!r}), load_anny(num_shape=10)).num_gaussians)
"""
    assert int(run("-c", load)) == metrics["gaussians"]
