"""CLIP models as open_clip reads them: the shipped one, a folder, a file of weights, or one of open_clip's own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import interpolate

from headstudio.errors import UserError
from headstudio.findings import Finding, State

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

log = logging.getLogger(__name__)
LOCAL = "local-dir:"
PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


def packaged_clip(*, name: str) -> str:
    """open_clip's name of the model folder `headstudio/assets/<name>` of this installation."""
    from importlib.resources import files

    return f"{LOCAL}{Path(str(files('headstudio'))) / 'assets' / name}"


class ClipModel:
    """Unit embeddings of pictures and sentences. The network is read when it is first asked for.

    Args:
        name: what its scores are called.
        architecture: a name that open_clip knows, or `local-dir:` and a folder in its format (see `packaged_clip`).
        weights: open_clip's tag of published weights, the path of a file that holds them, or None where the folder of
            `architecture` does. Weights of OpenAI need an architecture that ends in `-quickgelu`.
        cache_dir: where published weights are kept; None is open_clip's own place.

    Raises:
        UserError: a folder or a file that is not there.
    """

    def __init__(self, *, name: str, architecture: str, weights: str | None, cache_dir: str | None = None) -> None:
        self.name, self.architecture, self.weights, self.cache_dir = name, architecture, weights, cache_dir
        folder = Path(architecture.removeprefix(LOCAL))
        if architecture.startswith(LOCAL) and not (folder / "open_clip_config.json").is_file():
            raise UserError(f"{self._key}: architecture={architecture} names no folder with open_clip_config.json.")
        if not architecture.startswith(LOCAL) and weights is None:
            raise UserError(f"{self._key}: {architecture} needs weights: a tag that open_clip knows or a file.")
        self._is_file = weights is not None and ("/" in weights or Path(weights).suffix in (".pt", ".safetensors"))
        if self._is_file and not Path(str(weights)).is_file():
            raise UserError(f"{self._key}: there is no file weights={weights}.")
        self._published: dict[str, Any] = {}  # what open_clip knows of published weights
        self._file = ""  # and where they lie
        self._loaded: tuple[Any, Any, Tensor, Tensor, str] | None = None

    @staticmethod
    def look(name: str, architecture: str, weights: str | None, cache_dir: str | None = None) -> list[Finding]:
        """Whether the weights are on this machine (for `headstudio.doctor`); what ships is not mentioned."""
        if architecture.startswith(LOCAL):
            return []
        what = f"CLIP model {name}"
        try:
            model = ClipModel(name=name, architecture=architecture, weights=weights, cache_dir=cache_dir)
        except UserError as error:
            return [Finding(what=what, state=State.LACKING, detail=str(error), remedy="name a file, or a tag")]
        if model._is_file:
            return [Finding(what=what, state=State.READY, detail=str(weights), files=(Path(str(weights)),))]
        from huggingface_hub.constants import HF_HUB_OFFLINE
        from open_clip.pretrained import get_pretrained_cfg

        published = get_pretrained_cfg(architecture, str(weights))
        if found := cached(published or {}, cache_dir):
            return [Finding(what=what, state=State.READY, detail=found, files=(Path(found),))]
        get = f"python -c \"import open_clip; open_clip.create_model('{architecture}', pretrained='{weights}')\""
        if HF_HUB_OFFLINE or not published:
            detail = f"{weights} of {architecture} is not in the cache"
            return [Finding(what=what, state=State.LACKING, detail=detail, remedy=f"where there is a network: {get}")]
        detail = f"{weights} of {architecture} would be downloaded before the first step"
        return [Finding(what=what, state=State.FETCHED, detail=detail, remedy=f"to have it now: {get}")]

    @property
    def _key(self) -> str:
        return f"The CLIP model {self.name} (metrics.clip.models)"

    def prepare(self) -> None:
        """Make sure that published weights are on this machine, fetching them if need be.

        Raises:
            UserError: unknown names, or weights that are neither in the cache nor to be had.
        """
        if self.architecture.startswith(LOCAL) or self._is_file or self._file:
            return
        import open_clip
        from open_clip.pretrained import get_pretrained_cfg

        if self.architecture not in open_clip.list_models():
            raise UserError(f"{self._key}: open_clip knows no architecture {self.architecture!r}.")
        self._published = get_pretrained_cfg(self.architecture, str(self.weights))
        if not self._published:
            known = ", ".join(open_clip.list_pretrained_tags_by_model(self.architecture)) or "none"
            raise UserError(
                f"{self._key}: weights={self.weights!r} is neither a file nor a tag of {self.architecture}; its tags "
                f"are {known}."
            )
        try:
            self._file = cached(self._published, self.cache_dir) or fetched(self._published, self.cache_dir)
        except Exception as error:  # the hub, the network and the disk each raise their own
            raise UserError(
                f"{self._key}: the weights {self.weights} of {self.architecture} are not on this machine and cannot be "
                f"fetched ({_first_line(error)}). Fetch them where there is a network, into the same cache (HF_HOME):  "
                f"python -c \"import open_clip; open_clip.create_model('{self.architecture}', "
                f"pretrained='{self.weights}')\"  or name a file as its weights. metrics=tiny_clip needs neither."
            ) from error

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that it reads."""
        size = self._load(None)[0].visual.image_size
        return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))

    @torch.no_grad()
    def encode_pictures(self, pictures: Float[Tensor, "V 3 H W"], *, chunk: int = 16) -> Float[Tensor, "V D"]:
        """Unit image embeddings of pictures in [0, 1] of any size, resized as the model's own preprocessing does."""
        model, _, mean, std, interpolation = self._load(pictures.device)
        embeddings = []
        for part in pictures.float().clamp(0, 1).split(chunk):
            if part.shape[-2:] != self.size:
                resized = interpolate(part, size=self.size, mode=interpolation, align_corners=False, antialias=True)
                part = resized.clamp(0, 1)
            embeddings.append(model.encode_image((part - mean) / std, normalize=True))
        return torch.cat(embeddings).float()

    @torch.no_grad()
    def encode_sentences(self, sentences: list[str]) -> Float[Tensor, "T D"]:
        """Unit text embeddings, on the device of the pictures seen last."""
        model, tokenizer, mean, _, _ = self._load(None)
        return model.encode_text(tokenizer(sentences).to(mean.device), normalize=True).float()  # type: ignore[no-any-return]

    def _load(self, device: torch.device | None) -> tuple[Any, Any, Tensor, Tensor, str]:
        """Loading takes seconds, and no run needs it before its end."""
        if self._loaded is None:
            import open_clip

            self.prepare()
            model = open_clip.create_model(
                self.architecture,
                pretrained=self._file or self.weights,
                force_preprocess_cfg={key: self._published[key] for key in PREPROCESSING if key in self._published},
            )
            settings = open_clip.get_model_preprocess_cfg(model)
            mean, std = (torch.tensor(settings[name])[None, :, None, None] for name in ("mean", "std"))
            tokenizer = open_clip.get_tokenizer(self.architecture)
            self._loaded = model.eval().requires_grad_(False), tokenizer, mean, std, settings["interpolation"]
        model, tokenizer, mean, std, interpolation = self._loaded
        if device is not None and mean.device != device:
            self._loaded = model.to(device), tokenizer, mean.to(device), std.to(device), interpolation
        return self._loaded


def cached(published: dict[str, Any], cache_dir: str | None) -> str:
    """The file of published weights if it is on this machine, else an empty string; nobody is asked."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository, _, name = str(published.get("hf_hub", "")).rpartition("/")
    for filename in (name,) if name else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME):
        found = try_to_load_from_cache(repository, filename, cache_dir=cache_dir) if repository else None
        if isinstance(found, str):
            return found
    return ""


def fetched(published: dict[str, Any], cache_dir: str | None, *, patience_s: float = 10.0) -> str:
    """Download published weights; where there is no network that shows at once and not after many tries."""
    from urllib.request import Request, urlopen

    from huggingface_hub.constants import ENDPOINT
    from open_clip.pretrained import download_pretrained

    urlopen(Request(ENDPOINT, method="HEAD"), timeout=patience_s).close()
    return str(download_pretrained(published, cache_dir=cache_dir))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
