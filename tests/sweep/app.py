"""A Hydra app that trains nothing but behaves like a run: steps, checkpoints, stops when asked, and fails on demand.

Its "result" is a chain of hashes over all its steps, so a step left out or done twice shows in the last byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import headstudio
from headstudio.errors import UserError
from headstudio.sweep.slurm import Slurm


def work(config: DictConfig) -> dict[str, object]:
    from headstudio.interrupt import Interrupted, StopRequest
    from headstudio.runstate import RunPaths, write_atomically

    paths = RunPaths(Path(HydraConfig.get().runtime.output_dir))
    checkpoint = paths.checkpoint
    state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"step": 0, "chain": ""}
    (paths.root / "imported.txt").write_text(str(headstudio.__file__))
    with (paths.root / "starts.txt").open("a") as file:
        file.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES', '-')} {time.time()} {state['step']}\n")
    with StopRequest() as stop:
        while state["step"] < config.steps:
            if config.step_s:
                time.sleep(config.step_s)
            if config.n in config.fail and state["step"] == 1:
                raise ZeroDivisionError(f"run {config.n} was told to fail")
            if config.n in config.die and state["step"] == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if config.n in config.eat and state["step"] == 1:
                hoard = [bytearray(os.urandom(1)) * (64 << 20) for _ in range(config.eat_mb // 64)]
                time.sleep(30)
                del hoard
            chain = hashlib.sha256(f"{state['chain']} {config.n} {state['step']}".encode()).hexdigest()
            state = {"step": state["step"] + 1, "chain": chain}
            with paths.steps.open("a") as file:
                file.write(json.dumps({"step": state["step"] - 1, "seconds": state["step"] * config.step_s}) + "\n")
            if state["step"] % config.checkpoint_every == 0 or state["step"] == config.steps or stop.requested:
                write_atomically(checkpoint, json.dumps(state).encode())
            if stop.requested:
                raise Interrupted(f"Stopped after step {state['step']} of {config.steps}.", stop.requested)
    write_atomically(paths.root / "result.txt", state["chain"].encode())
    answer: object = config.answer
    if config.package:
        sys.path.append(config.package)
        from answering import answer  # type: ignore[import-not-found,no-redef]
    paths.finish(f"run {config.n}", {"clip_score": config.n / 10, "answer": answer})
    return {"n": config.n}


def expected(n: int, steps: int) -> str:
    """The result of an undisturbed run."""
    chain = ""
    for step in range(steps):
        chain = hashlib.sha256(f"{chain} {n} {step}".encode()).hexdigest()
    return chain


if __name__ == "__main__":
    Slurm.look_every_s = 0.5  # its cluster serves nobody else
    os.environ["HYDRA_FULL_ERROR"] = "1"  # as headstudio.run does: exceptions come here
    try:
        hydra.main(version_base="1.3", config_path="conf", config_name="app")(work)()
    except (KeyboardInterrupt, UserError) as told:
        sys.stderr.write(f"{told}\n")
        sys.exit(130 if isinstance(told, KeyboardInterrupt) else 2)
