"""Which files make up each component of a prior in diffusers' folder format, and whether a folder has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headstudio.errors import UserError
from headstudio.guidance.weights_file import read_header


@dataclass(frozen=True)
class Layout:
    """The files of one component.

    Attributes:
        settings: alternatives, each a set of files that go together.
        stem: of the weights' file; empty where the component has none.
    """

    settings: tuple[tuple[str, ...], ...]
    stem: str = ""

    @property
    def weights(self) -> tuple[str, ...]:
        """The weights' files that will do, the preferred first: whole, in shards, in half precision."""
        if not self.stem:
            return ()
        return (f"{self.stem}.safetensors", f"{self.stem}.safetensors.index.json", f"{self.stem}.fp16.safetensors")

    def told(self, subfolder: str) -> str:
        """The files in words, the first alternative of each."""
        names = (*self.settings[0], *self.weights[:1])
        return ", ".join(f"{subfolder}/{name}" if subfolder else name for name in names)


_NET = Layout((("config.json",),), "diffusion_pytorch_model")
LAYOUTS: Mapping[str, Layout] = {
    "unet": _NET,
    "vae": _NET,
    "text_encoder": Layout((("config.json",),), "model"),
    "tokenizer": Layout(
        (("tokenizer_config.json", "vocab.json", "merges.txt"), ("tokenizer_config.json", "tokenizer.json"))
    ),
    "scheduler": Layout((("scheduler_config.json",),)),
    "controlnet": _NET,
}


@dataclass(frozen=True)
class Found:
    """One component's files.

    Attributes:
        settings: files with settings; all of one alternative.
        weights: the file with the weights, or the index of its shards; None where the component has none.
        shards: the files that the index names.
    """

    settings: tuple[Path, ...]
    weights: Path | None
    shards: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """Where they lie."""
        return self.settings[0].parent

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.settings, *([self.weights] if self.weights else []), *self.shards)

    @property
    def variant(self) -> str | None:
        """ "fp16" where only half precision is there."""
        return "fp16" if self.weights and ".fp16." in self.weights.name else None

    def parameters(self) -> int:
        """How many numbers the weights hold.

        Raises:
            UserError: a file that is damaged.
        """
        files = self.shards or ((self.weights,) if self.weights else ())
        return sum(read_header(file).parameters for file in files)


def find(component: str, get: Callable[[str], Path | None]) -> tuple[Found | None, list[str]]:
    """The component's files, or what is missing of them.

    Args:
        component: a key of `LAYOUTS`.
        get: the local path of a file by its name within the component's folder, None if it isn't there.

    Returns:
        The files if they are complete, else None; and the names of those that are missing.

    Raises:
        UserError: a settings file that is no JSON.
    """
    layout = LAYOUTS[component]
    alternatives = [[get(name) for name in names] for names in layout.settings]
    settings = next((tuple(filter(None, files)) for files in alternatives if all(files)), None)
    lacking = [] if settings else [n for n, f in zip(layout.settings[0], alternatives[0], strict=True) if f is None]
    for setting in settings or ():
        if setting.suffix == ".json":
            read_json(setting)
    weights = next((file for name in layout.weights if (file := get(name))), None)
    if layout.weights and weights is None:
        lacking.append(layout.weights[0])
    shards: list[Path] = []
    if weights and weights.name.endswith(".index.json"):
        table = read_json(weights).get("weight_map")
        for name in sorted(set(table.values())) if isinstance(table, dict) else ():
            shard = get(name)
            shards += [shard] if shard else []
            lacking += [] if shard else [name]
    if lacking or settings is None:
        return None, lacking
    return Found(settings, weights, tuple(shards)), []


def in_folder(folder: Path) -> Callable[[str], Path | None]:
    """`get` for `find`: files of a folder."""
    return lambda name: folder / name if (folder / name).is_file() else None


def read_json(file: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        UserError: it is none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file} can't be read as JSON; download it again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} can't be read as settings; download it again.")
    return content
