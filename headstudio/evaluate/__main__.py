"""Score finished runs again, from their directories alone.

    python -m headstudio.evaluate DIRECTORY ...                  do the scores come out as they stand there?
    python -m headstudio.evaluate DIRECTORY ... metrics=clip     other scores, added to each run

DIRECTORY is a run's, or one that holds runs. Without a setting, each run's own metrics are computed once more and
compared with its metrics.json; nothing is written, and the exit code is 1 if a score differs. With settings (any
`metrics=...` or `metrics.x.y=...`), those metrics are computed and written to scores_NAME.json in the run's directory,
where tables and reports find them.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio import cli
from headstudio.errors import UserError
from headstudio.opened import read_config
from headstudio.runstate import RunPaths

if TYPE_CHECKING:
    from omegaconf import DictConfig

UNREPEATABLE = ("render_fps", "seconds", "peak_memory_gb", "phase_seconds.")
"""What a machine needs differs from time to time."""


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the user's mistakes are one sentence and exit code 2."""
    words = sys.argv[1:] if words is None else list(words)
    if not words or {"-h", "--help"} & set(words):
        sys.stdout.write(f"{__doc__}")
        return 0 if words else 2
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    settings = [word for word in words if "=" in word and not Path(word).exists()]
    try:
        if wrong := [word for word in settings if not word.lstrip("+~").startswith(("metrics=", "metrics."))]:
            raise UserError(f"{wrong[0]}: only metrics can be chosen here; the rest is as the run was made.")
        runs = list(dict.fromkeys(run for word in words if word not in settings for run in finished_runs(Path(word))))
        return _add(runs, settings) if settings else _verify(runs)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def finished_runs(folder: Path) -> Iterator[RunPaths]:
    """The finished runs in a folder, which may be one itself.

    Raises:
        UserError: there is none.
    """
    candidates = map(RunPaths, (folder, *sorted(p for p in folder.glob("*") if p.is_dir())))
    found = [paths for paths in candidates if paths.done.exists() and paths.config.exists()]
    if not found:
        raise UserError(f"{folder} holds no finished run (a run's directory has config.yaml and DONE).")
    yield from found


def _verify(runs: Sequence[RunPaths]) -> int:
    """Compute each run's own metrics again and compare."""
    from headstudio.sweep.state import numbers

    differing = 0
    for paths in runs:
        config = read_config(paths)
        try:
            stored = numbers(json.loads(paths.metrics.read_bytes()))
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"The scores {paths.metrics} cannot be read ({error}).") from error
        again = numbers(_scores(config, paths, config.metrics))
        compared = [name for name in {**stored, **again} if not name.startswith(UNREPEATABLE)]
        wrong = [name for name in compared if stored.get(name) != again.get(name)]
        differing += bool(wrong)
        sys.stdout.write(f"{paths.root}: {len(compared) - len(wrong)} of {len(compared)} scores come out the same\n")
        for name in wrong:
            before, now = (found.get(name, "missing") for found in (stored, again))
            sys.stdout.write(f"    {name}: {before} in metrics.json, {now} now\n")
    return int(differing > 0)


def _add(runs: Sequence[RunPaths], settings: Sequence[str]) -> int:
    """Compute other metrics and write them beside metrics.json."""
    from headstudio.files import put
    from headstudio.sweep.state import numbers

    name = cli.slug(",".join(settings), 60)
    for paths in runs:
        config = read_config(paths)
        scores = _scores(config, paths, _composed(config, settings))
        put(paths.root / f"scores_{name}.json", json.dumps({"settings": list(settings), **scores}, indent=2) + "\n")
        shown = ", ".join(f"{key} {value:.4g}" for key, value in numbers(scores).items() if "/" not in key)
        sys.stdout.write(f"{paths.root}/scores_{name}.json: {shown}\n")
    return 0


def _composed(config: DictConfig, settings: Sequence[str]) -> DictConfig:
    """The group `metrics` with these settings; what it refers to is as in the run."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict

    from headstudio.run import register_resolvers

    register_resolvers()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(cli.conf_dir()), version_base="1.3"):
            composed = compose("config", overrides=list(settings))
    except HydraException as error:
        raise UserError(cli.explain(error, settings) or str(error)) from error
    with open_dict(composed):
        for key in ("prompt", "prompts", "scale", "seed"):
            composed[key] = config[key]
    resolved: DictConfig = OmegaConf.create({"metrics": OmegaConf.to_container(composed, resolve=True)["metrics"]})  # type: ignore[index,call-overload]
    return resolved.metrics  # type: ignore[no-any-return]


def _scores(config: DictConfig, paths: RunPaths, metrics: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    from headstudio.run import judged

    return judged(config, paths, _made(OmegaConf.to_yaml(metrics, resolve=True)))


@lru_cache(maxsize=1)
def _made(text: str) -> dict[str, Any]:
    """The metrics of a setting; runs that are judged alike share them, and a large CLIP model is read once."""
    from omegaconf import OmegaConf

    from headstudio import evaluate
    from headstudio.run import make

    metrics: dict[str, Any] = make(OmegaConf.create(text))  # type: ignore[arg-type]
    evaluate.prepare(metrics)
    return metrics


if __name__ == "__main__":
    sys.exit(main())
