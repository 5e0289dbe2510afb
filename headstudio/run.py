"""`python -m headstudio.run`: the entry, and the only place where the parts of a run are put together.

`main` reads the command line and lets Hydra compose; `run` is one run: build the parts, fit, evaluate, record.
Below this file nobody sees a config. torch is imported when a run starts, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio import ablation, cli
from headstudio.prompts import expand

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from headstudio.runstate import RunPaths
    from headstudio.trainer import Parts

log = logging.getLogger("headstudio")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every mistake of the user ends as one sentence and exit code 2."""
    arguments = cli.quote_prompts(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(cli.help_text() + "\n")
        return
    arguments = cli.flags_first(cli.with_sweep_folder(arguments))
    show_everything = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions over instead of printing them
    try:
        ablation.check(arguments)
        import hydra

        register_resolvers()
        sys.argv[1:] = expand(arguments)
        entry = import_module("headstudio.run").job  # not __main__'s: workers import it by name
        hydra.main(version_base="1.3", config_path=str(cli.conf_dir()), config_name="config")(entry)()
    except KeyboardInterrupt as stop:
        sys.stderr.write(f"{str(stop) or 'Stopped; what was saved is kept, start the same command again to go on.'}\n")
        sys.exit(130)
    except (Exception, cli.Told) as raised:
        error = raised.__cause__ if isinstance(raised, cli.Told) else raised
        sentence = None if error is None or show_everything else cli.explain(error, arguments)
        if sentence is None:
            traceback.print_exception(error)
            sys.exit(1)
        sys.stderr.write(f"{sentence}\n")
        sys.exit(2)


def job(config: DictConfig) -> dict[str, Any]:
    """What Hydra calls once per run; in a multirun the launcher keeps what a failure raises from the other runs."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from headstudio.runstate import RunPaths

    hydra_config = HydraConfig.get()
    paths = RunPaths(Path(hydra_config.runtime.output_dir))
    swept = hydra_config.mode == RunMode.MULTIRUN
    try:
        group = Path(hydra_config.sweep.dir).name if swept else None
        return run(config, paths, group=group, head_name=hydra_config.runtime.choices["head"])
    except KeyboardInterrupt as stop:
        if str(stop):
            raise
        raise KeyboardInterrupt(_goodbye(paths)) from None
    except Exception as error:
        if swept:
            raise
        if cli.explain(error, ()):
            paths.remove_unbegun()
        raise cli.Told from error


def _goodbye(paths: RunPaths) -> str:
    """To whoever presses Ctrl-C while no steps are done: before them, or when the finished avatar is judged."""
    if paths.checkpoint.exists():
        return f"Stopped; the steps that are done are kept in {paths.root}. Start the same command again to go on."
    return "Stopped before the first step; start the same command again."


def check(config: DictConfig) -> None:
    """What a launcher asks of every run before it submits any."""
    from headstudio import settings

    settings.check(config)


job.check = check  # type: ignore[attr-defined]


def run(config: DictConfig, paths: RunPaths, *, group: str | None, head_name: str) -> dict[str, Any]:
    """One run from its composed config to its finished directory; returns what metrics.json holds.

    Args:
        config: composed, without Hydra's own node.
        paths: the run's directory; what an earlier process left there is used.
        group: the sweep's name, None for a single run.
        head_name: the option of the group `head`, for whoever opens the avatar's file.

    Raises:
        Busy: if another process works on this very run.
    """
    from headstudio.claim import held
    from headstudio.runstate import RunPaths, config_signature

    check(config)
    signature = config_signature(config)
    paths.prepare()
    if paths.is_finished(signature):
        log.info("Already finished: %s (delete it to run it again)", paths.root)
        return dict(json.loads(paths.metrics.read_text(encoding="utf-8")))
    with held(paths.root, steps=config.trainer.steps) as attempt:
        return _make_head(config, RunPaths(paths.root, attempt.check), signature, group, head_name)


def _make_head(
    config: DictConfig, paths: RunPaths, signature: str, group: str | None, head_name: str
) -> dict[str, Any]:
    """The work of `run`, once the directory is ours."""
    import torch
    from omegaconf import OmegaConf

    from headstudio import evaluate, inputs, record
    from headstudio.doctor.setting import needs, require
    from headstudio.export.ply import save_avatar
    from headstudio.log import JsonlLogger, Loggers
    from headstudio.runstate import load_checkpoint

    require(config)
    saved = load_checkpoint(paths.checkpoint, signature) if paths.checkpoint.exists() else None
    OmegaConf.save(config, paths.config, resolve=True)
    memory = record.PeakMemory()
    log.info("Making %r in %s", config.prompt, paths.root)
    metrics = make(config.metrics)
    evaluate.prepare(metrics)
    parts = build(config)
    inputs.keep(paths.inputs, inputs.identify(needs(config)), resumed=saved is not None)
    more = make(config.logger)(
        directory=paths.root,
        signature=signature,
        name=paths.root.name,
        group=group,
        config=OmegaConf.to_container(config, resolve=True),
        options=_options(),
    )
    loggers = Loggers((JsonlLogger(paths.steps), more))

    watch = evaluate.Watch(metrics, config.prompt)
    cleanup = make(config.cleanup)
    report = make(config.trainer).fit(parts, paths, signature, loggers, saved, watch)
    cleanup(parts, config.trainer.steps - 1, torch.Generator().manual_seed(config.seed))

    save_avatar(parts.avatar, paths.avatar, head_name=head_name)
    log.info("Judging the avatar")
    results: dict[str, Any] = {"signature": signature, "prompt": config.prompt} | judged(config, paths, metrics)
    log.info("Filming it")
    generator = torch.Generator().manual_seed(config.seed)
    files = make(config.gallery)(parts.avatar, parts.renderer, parts.motion, paths, generator)
    files["avatar"] = paths.avatar
    results |= {"seconds": round(report.seconds, 2), "peak_memory_gb": memory.gigabytes()}
    results |= {"phase_seconds": report.phases}
    loggers.summary(results, files)
    loggers.close()
    paths.finish(signature, results)
    log.info("Done: %s", paths.root)
    return results


def judged(config: DictConfig, paths: RunPaths, metrics: dict[str, Any]) -> dict[str, Any]:
    """The scores of the avatar that lies in a run's directory, how it came to them, and the details of both.

    A run judges what it has saved, so that whoever has its directory can do the same again.
    """
    from headstudio import evaluate
    from headstudio.export.ply import load_avatar
    from headstudio.log import read_lines

    renderer = make(config.renderer)
    avatar = load_avatar(paths.avatar, make(config.head)).to(renderer.device)
    scores = evaluate.judge(metrics, avatar, avatar.renderer(renderer), config.prompt)
    return scores | evaluate.watched(metrics, read_lines(paths.steps))


def build(config: DictConfig) -> Parts:
    """Every part of a step, each group instantiated once; the cheap ones first, so that mistakes show early."""
    import torch

    from headstudio.guidance.fit import require_channels
    from headstudio.trainer import Parts

    generator = torch.Generator().manual_seed(config.seed)
    renderer = make(config.renderer)
    device = torch.device(renderer.device)
    camera, reg, optim = make(config.camera), make(config.reg), make(config.optim)
    log.info("Loading the head")
    head = make(config.head)
    motion = make(config.motion)(head)
    avatar = make(config.representation)(head, generator, init=make(config.init)).to(device)
    reg, densify, optim = fitting(avatar, reg, make(config.densify), optim)
    densify.check(avatar)
    log.info("Loading the prior")
    prior, control = make(config.prior)(device, make(config.memory)), make(config.control)
    require_channels(prior.controlnet, control)
    return Parts(
        camera=camera,
        motion=motion,
        avatar=avatar,
        renderer=avatar.renderer(renderer),
        control=control,
        guidance=make(config.guidance)(prior, make(config.prompts)(prior)),
        reg=reg,
        densify=densify,
        optim=optim,
        generator=generator,
        device=device,
    )


def fitting(avatar: Any, reg: Any, densify: Any, optim: Any) -> tuple[Any, Any, Any]:
    """The three parts as the representation uses them; says so where it has no use for one of them."""
    fits = avatar.regularisation(reg), avatar.densification(densify)
    for group, given, used in zip(("reg", "densify"), (reg, densify), fits, strict=True):
        if type(used) is not type(given):
            log.info("This representation has no use for %s: %s takes its place", group, type(used).__name__)
    return *fits, avatar.optimisation(optim)


def make(node: DictConfig) -> Any:
    """The object (or, where the YAML says `_partial_`, the function that makes it) of one group; plain lists inside."""
    from hydra.utils import instantiate

    return instantiate(node, _convert_="all")


def _options() -> dict[str, str]:
    """The option taken of each config group, where Hydra composed the run."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return {}
    choices = HydraConfig.get().runtime.choices
    return {str(group): str(option) for group, option in choices.items() if option and "/" not in group}


def register_resolvers() -> None:
    """`${run_name:}`, the name of a run's directory: readable words and the signature."""
    from omegaconf import OmegaConf

    def run_name(*, _root_: DictConfig) -> str:
        from headstudio.runstate import config_signature

        words = str(_root_.prompt)
        if OmegaConf.select(_root_, "hydra.job.num", throw_on_missing=False) is not None:
            words = ",".join(_root_.hydra.overrides.task)
        return f"{cli.slug(words, 50)}-{config_signature(_root_)}"

    OmegaConf.register_new_resolver("run_name", run_name, replace=True)


if __name__ == "__main__":
    main()
