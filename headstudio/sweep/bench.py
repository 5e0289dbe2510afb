"""What a thousand runs cost beside their own work: runs that do nothing, with the whole config of a real one.

`python -m headstudio.sweep.bench` is the sweep itself; `measurements` starts it, and starts it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

HYDRA_SECONDS = "hydra_seconds.txt"


def measurements(count: int = 1000) -> Iterator[tuple[str, float, int]]:
    """What was timed, its seconds in all, and how many runs share them.

    Args:
        count: how many runs.

    Raises:
        RuntimeError: with the output of a command that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sweep = [sys.executable, "-m", "headstudio.sweep.bench", "-m", f"seed=range({count})", "hydra.sweep.dir=sweep"]
        whole = _timed([*sweep, "hydra/launcher=debug"], root)
        hydra = float((root / HYDRA_SECONDS).read_text(encoding="utf-8"))
        yield "bookkeeping per run: compose, freeze, claim, record", whole - hydra, count
        yield "  and what Hydra does around a run", hydra, count
        yield f"start a finished sweep of {count} runs again", _timed([*sweep, "hydra/launcher=debug"], root), 1
        status = [sys.executable, "-m", "headstudio.sweep", "status", "sweep"]
        yield f"status of {count} runs", _timed(status, root), 1


def _timed(words: list[str], folder: Path) -> float:
    begin = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env={**os.environ}, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return seconds


def nothing(config: DictConfig) -> dict[str, Any]:
    """A run that is finished when it begins."""
    from hydra.core.hydra_config import HydraConfig

    from headstudio.runstate import RunPaths

    RunPaths(Path(HydraConfig.get().runtime.output_dir)).finish("nothing", {"clip_score": 0.5})
    return {}


def main() -> None:
    """The multirun of `nothing` with the overrides of the command line; Hydra's own seconds go to a file."""
    import hydra
    from hydra.core import utils

    from headstudio.cli import conf_dir
    from headstudio.run import register_resolvers
    from headstudio.sweep.bench import nothing as task  # not __main__'s: workers import it by name

    inside, run_job = [0.0], utils.run_job

    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return run_job(*args, **kwargs)
        finally:
            inside[0] += time.perf_counter() - begin

    utils.run_job = timed
    register_resolvers()
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
    Path(HYDRA_SECONDS).write_text(str(inside[0]), encoding="utf-8")


if __name__ == "__main__":
    main()
