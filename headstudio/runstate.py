"""What makes a run itself: its signature, its directory, its checkpoint.

A run is the hash of its resolved setting. The same setting finds its own directory again: a finished run is not run
twice and an interrupted one goes on from its checkpoint, with the same bytes as if it had never been stopped.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstudio.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

UNHASHED = ("hydra", "logger", "memory", "renderer")
"""What does not make another run: all renderers draw the same picture, and less memory does not change what is
computed, so a run may go on on another device.
Everything else is part of a run's signature, the seed too."""

RENDERER_CHANGES = ("absgrad",)
"""The renderer's keys that do make another run when they are set: densification reads other gradients."""

DEFAULT_ASSETS = ("head_anny.npz", "prior_tiny", "tiny_clip")
"""What of the assets' folder counts for every run; another entry counts for the runs that name it."""


@dataclass(frozen=True)
class RunPaths:
    """Every file of one run's directory.

    Args:
        root: the directory.
        check_owner: asked before results are written; raises when another process has taken the run over.
    """

    root: Path
    check_owner: Callable[[], None] = field(default=lambda: None, compare=False)

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def inputs(self) -> Path:
        """Hashes of the user's files that it was made from; not there where it needed none."""
        return self.root / "inputs.json"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint"

    @property
    def timing(self) -> Path:
        return self.root / "timing.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.json"

    def more_scores(self) -> list[Path]:
        """What `python -m headstudio.evaluate` added after the run: `scores_*.json`."""
        return sorted(self.root.glob("scores_*.json"))

    @property
    def steps(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def avatar(self) -> Path:
        return self.root / "avatar.ply"

    @property
    def turntable(self) -> Path:
        return self.root / "turntable.mp4"

    @property
    def animation(self) -> Path:
        return self.root / "animation.mp4"

    @property
    def grid(self) -> Path:
        return self.root / "grid.png"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def done(self) -> Path:
        return self.root / "DONE"

    @property
    def failed(self) -> Path:
        return self.root / "FAILED"

    def files(self) -> list[Path]:
        """All that a run writes into its directory."""
        made = (self.config, self.inputs, self.checkpoint, self.timing, self.metrics, self.steps, self.avatar)
        return [*made, self.turntable, self.animation, self.grid, self.done, self.failed, *self.more_scores()]

    def prepare(self) -> None:
        """Make the directory and prove that it can be written.

        Raises:
            UserError: naming the directory, if it cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / ".writable.partial"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"The output directory {self.root} cannot be written ({error.strerror}); "
                "name another one with hydra.run.dir=... (or hydra.sweep.dir=... in a multirun)."
            ) from error

    def is_finished(self, signature: str) -> bool:
        """Whether this very run already ended here.

        Raises:
            UserError: if another setting's finished run lies here.
        """
        if not (self.done.exists() and self.metrics.exists()):
            return False
        found = self.done.read_text(encoding="utf-8").strip()
        if found != signature:
            raise UserError(
                f"The output directory {self.root} holds the finished run {found} of another setting (this one is "
                f"{signature}); name another directory or remove that one."
            )
        return True

    def remove_unbegun(self) -> None:
        """Remove the directory if it holds no more than what is written before the first step."""
        before = {self.config.name, self.failed.name, ".hydra", "run.log", "attempts"}
        if self.root.is_dir() and {entry.name for entry in self.root.iterdir()} <= before:
            shutil.rmtree(self.root)

    def finish(self, signature: str, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json, then the marker that says that everything else is complete."""
        self.check_owner()
        write_atomically(self.metrics, (json.dumps(dict(metrics), indent=2) + "\n").encode())
        self.failed.unlink(missing_ok=True)
        write_atomically(self.done, f"{signature}\n".encode())


def surroundings() -> dict[str, str]:
    """What makes a run beside its config: this package's version and its assets."""
    from headstudio import __version__

    return {"version": __version__, "assets": assets_fingerprint()}


def signature(config: Mapping[str, Any]) -> str:
    """16 hex digits that name a resolved config (a plain nested dict) together with this package and its assets."""
    kept = {key: value for key, value in config.items() if key not in UNHASHED}
    renderer = config.get("renderer")
    if isinstance(renderer, Mapping):
        kept |= {f"renderer.{key}": renderer[key] for key in RENDERER_CHANGES if renderer.get(key)}
    content = {"config": kept, **surroundings()}
    if named := assets_named(kept):
        content["named"] = named
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def config_signature(config: DictConfig) -> str:
    """`signature` of a composed Hydra config, with or without its `hydra` node."""
    return signature(plain_values(config))


def plain_values(config: DictConfig) -> dict[str, Any]:
    """What `signature` takes of a composed config: its values, resolved, without those that do not count."""
    from omegaconf import OmegaConf

    def plain(value: Any) -> Any:
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value

    counted = [key for key in config if key not in UNHASHED or key == "renderer"]
    return {str(key): plain(config[key]) for key in counted}


@lru_cache(maxsize=1)
def assets_fingerprint() -> str:
    """Hash of the default's head and weights: a retrained prior makes new runs instead of reusing old results."""
    return _hashed(DEFAULT_ASSETS)


def assets_named(config: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of those other assets that a config (nested, resolved) names: one more asset leaves other runs alone."""
    folder = resources.files("headstudio") / "assets"
    others = {entry.name for entry in folder.iterdir()} - set(DEFAULT_ASSETS) if folder.is_dir() else set()
    return {name: _hashed((name,)) for name in sorted(others & set(_words(config)))}


@lru_cache
def _hashed(assets: tuple[str, ...]) -> str:
    """Of the weights in these entries of the assets' folder, by their paths."""
    digest = hashlib.sha256()
    folder = resources.files("headstudio") / "assets"
    if folder.is_dir():
        with resources.as_file(folder) as path:
            found = (p for p in path.rglob("*") if p.is_file() and p.suffix in (".npz", ".safetensors"))
            for file in sorted(p for p in found if p.relative_to(path).parts[0] in assets):
                digest.update(file.relative_to(path).as_posix().encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _words(value: Any) -> Iterator[str]:
    """Every text in a nested value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _words(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _words(inner)


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` so that at every moment `path` is either the last good checkpoint or the new one.

    Raises:
        UserError: if the disk is full; the last good checkpoint stays.
    """
    import io

    import torch

    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, signature: str) -> dict[str, Any]:
    """The state saved by `save_checkpoint` (tensors and plain values only: nothing in the file is executed).

    Raises:
        UserError: if the file is truncated or damaged, or belongs to another setting.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["signature"]
    except Exception as error:  # torch raises a different class for each way in which a file can be broken
        raise UserError(
            f"The checkpoint {path} is truncated or damaged; delete it to start this run from the beginning."
        ) from error
    if found != signature:
        raise UserError(
            f"The checkpoint {path} belongs to the run {found} of another setting (this one is {signature}); "
            "name another directory or delete it."
        )
    return dict(state)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a temporary file beside `path`, force it to the disk and rename it over `path`.

    Raises:
        UserError: if the disk is full; what was at `path` before stays.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        kept = "the one written before is kept" if path.exists() else "nothing was written"
        raise UserError(
            f"The disk is full: {path} needs {len(content) / 1e6:.1f} MB ({kept}); free some space and start the "
            "same command again."
        ) from error
