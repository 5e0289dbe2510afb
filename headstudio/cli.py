"""What the command line says: the help, the name of a sweep, and every mistake as one sentence.

Nothing here imports torch; Hydra is imported where it is needed, so that `--help` answers at once.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from headstudio.errors import UserError
from headstudio.prompts import lists, quoted

USAGE = """\
One sentence becomes an animatable head.

  python -m headstudio.run prompt="a head with green skin, purple hair and red lips"
  python -m headstudio.run -m reg=none,strict,scaled      several runs and one table at the end
  python -m headstudio.run -m prompt=@tiny8 seed=0,1      a list of sentences (prompts/, or a file) with every seed
  python -m headstudio.run -m +ablation=fig7_f3dgs        an ablation of the paper: every arm, sentence and seed
  python -m headstudio.run scale=smoke                    a whole run in under 40 seconds
  python -m headstudio.run -m seed=0,1,2 hydra/launcher=slurm   the same on a cluster; see python -m headstudio.sweep
  python -m headstudio.run --cfg job                      the whole setting (--resolve fills in the references)

Choose an option of a group with group=option, change any value of the setting with key=value.
The same command again goes on where an interrupted run stopped, and does not repeat a finished one.

Groups and their options (* is the default):
"""


class Told(SystemExit):
    """A run's failure on its way to `main`, which tells its cause; Hydra lets it pass without a word of its own."""


def conf_dir() -> Path:
    """The settings: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@lru_cache(maxsize=1)
def groups() -> dict[str, dict[str, str]]:
    """Every group with its options and the first comment line of each."""
    found: dict[str, dict[str, str]] = {}
    for folder in sorted(p for p in conf_dir().iterdir() if p.is_dir()):
        options = {file.stem: _first_comment(file) for file in sorted(folder.glob("*.yaml"))}
        if options:
            found[folder.name] = options
    return found


def help_text() -> str:
    """Usage and the groups, one line per option."""
    defaults = _default_choices()
    lines = [USAGE]
    for group, options in groups().items():
        lines.append(f"  {group}")
        for name, comment in options.items():
            mark = "*" if defaults.get(group) == name else " "
            lines.append(_row(mark, name, comment))
    from headstudio.sweep.profiles import GROUP, profiles

    lines.append(f"  {GROUP}  (how the runs of -m reach machines; keys with --cfg hydra --package hydra.launcher)")
    for name, file in profiles().items():
        lines.append(_row("*" if name == "local" else " ", name, _first_comment(file)))
    lines.append("  prompt=@LIST  (with -m: one run per sentence)")
    lines.extend(_row(" ", name, comment) for name, comment in lists().items())
    from headstudio import ablation

    lines.append(f"  {ablation.KEY}=NAME  (with -m: one run per arm, sentence and seed; also a YAML file of yours)")
    lines.extend(_row(" ", name, _first_comment(file)) for name, file in ablation.files().items())
    lines.append("\nFlags of Hydra itself: python -m headstudio.run --hydra-help")
    return "\n".join(lines)


def _row(mark: str, name: str, comment: str) -> str:
    return f"   {mark} {name:<19}  {comment}"


def quote_prompts(arguments: Sequence[str]) -> list[str]:
    """`prompt=` followed by a bare sentence becomes a quoted value, as its commas are the sentence's own.

    To sweep over prompts, quote each one, `prompt="'a green head','a head with a hat'"`, or name a list, `prompt=@X`.
    """
    whole = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "prompt" and not re.match(r"\s*(['\"@]|\$\{|choice\(|shuffle\()", value):
            argument = f"prompt={quoted(value)}"
        whole.append(argument)
    return whole


def with_sweep_folder(arguments: Sequence[str]) -> list[str]:
    """A multirun gets a folder named after what it sweeps, so that the same command finds its runs again.

    Ablations share one, and so the runs that several of them name.
    """
    from headstudio import ablation

    named = any(a.startswith("hydra.sweep.dir=") for a in arguments)
    if named or not {"-m", "--multirun"} & set(arguments):
        return list(arguments)
    if ablation.named(arguments):
        return [*arguments, "hydra.sweep.dir=multirun/ablations"]
    own = [a for a in arguments if "=" in a and not a.startswith(("-", "hydra.", "hydra/"))]
    digest = hashlib.sha256("\n".join(sorted(own)).encode()).hexdigest()[:6]
    return [*arguments, f"hydra.sweep.dir=multirun/{slug(','.join(own), 60)}-{digest}"]


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Hydra's parser takes `key=value` only in one piece, so what stands between flags moves behind them."""
    values = [a for a in arguments if "=" in a and not a.startswith("-")]
    values += [a for a in arguments if a.startswith("~") and "=" not in a]
    return [a for a in arguments if a not in values] + values


def slug(text: str, longest: int) -> str:
    """Lower-case words and numbers joined by dashes, at most `longest` characters."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:longest].strip("-.") or "run"


def explain(error: BaseException, arguments: Sequence[str]) -> str | None:
    """One sentence for a mistake that the user can mend; None if the error is not the user's.

    Args:
        error: what was raised; the exceptions that caused it count too.
        arguments: the command line.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
    if "hydra" not in sys.modules:
        return None
    from hydra.errors import CompactHydraException, InstantiationException
    from omegaconf.errors import OmegaConfBaseException

    for link in chain:
        if isinstance(link, InstantiationException):
            return _explain_added(link, arguments)
    from headstudio.sweep import profiles

    for link in chain:
        if isinstance(link, CompactHydraException | OmegaConfBaseException):
            if told := profiles.explain(chain, arguments):
                return told
            return next(filter(None, map(_explain_argument, arguments)), None) or " ".join(str(link).split())
        if isinstance(link, OSError) and link.filename and _raised_by(link, "run_job"):
            return (
                f"The output directory {link.filename} cannot be written ({link.strerror}); "
                "name another one with hydra.run.dir=... (or hydra.sweep.dir=... in a multirun)."
            )
    return None


def nearest(word: str, known: Iterable[str]) -> str:
    """' Did you mean x?' or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def _raised_by(error: BaseException, function: str) -> bool:
    """Whether `function` itself, or the standard library below it, raised the error."""
    names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return function in names and "job" not in names[names.index(function) :]


def _explain_added(error: Exception, arguments: Sequence[str]) -> str | None:
    """A `+key=value` that the part has no use for, or a `~key` that it cannot do without."""
    for argument in arguments:
        key = argument.lstrip("+~").partition("=")[0]
        if argument.startswith(("+", "~")) and f"'{key.rsplit('.', 1)[-1]}'" in str(error):
            return f"{argument} does not fit: {' '.join(str(error).splitlines()[1:2])}"
    return None


def _explain_argument(argument: str) -> str | None:
    """What is wrong with one `key=value`, judged by the folders and files of conf/."""
    if argument.startswith(("-", "+", "~", "hydra")) or "=" not in argument:
        return None
    key, _, value = argument.partition("=")
    several = "," in value and not value.startswith(("[", "{", "'", '"'))
    if several and not {"-m", "--multirun"} & set(sys.argv):
        return f"{argument} names several values: add -m to make one run of each."
    if key in groups():
        options = groups()[key]
        for choice in re.split(r"\s*,\s*", value):
            if choice.strip("'\"") not in options and choice not in ("null", "") and "(" not in choice:
                known = ", ".join(options)
                return f"{key}={choice} does not exist: {key} is one of {known}.{nearest(choice, options)}"
        return None
    keys = _known_keys()
    if key == "ablation":
        return f"{argument} lacks its plus sign: +{argument}."
    if key not in keys:
        hint = _nearest_key(key, keys)
        return f"{key} is not a key of this setting.{hint} See --help for the groups, --cfg job for all keys."
    return None


def _nearest_key(key: str, keys: Sequence[str]) -> str:
    """The same name elsewhere, else a like name in the same group, else a like path."""
    parent, _, name = key.rpartition(".")
    elsewhere = sorted(
        (k for k in keys if k.rpartition(".")[2] == name), key=lambda k: (k.count("."), "scale" not in k)
    )
    siblings = {known.rpartition(".")[2]: known for known in keys if parent and known.rpartition(".")[0] == parent}
    alike = [siblings[close] for close in difflib.get_close_matches(name, siblings, n=1, cutoff=0.3)]
    found = elsewhere or alike or difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    return f" Did you mean {found[0]!r}?" if found else ""


@lru_cache(maxsize=1)
def _known_keys() -> tuple[str, ...]:
    """Every dotted key that some composition of the groups has."""
    from omegaconf import DictConfig, OmegaConf

    def walk(node: DictConfig, prefix: str) -> Iterable[str]:
        for key in map(str, node):
            path = f"{prefix}{key}"
            yield path
            if not OmegaConf.is_interpolation(node, key) and isinstance(node[key], DictConfig):
                yield from walk(node[key], f"{path}.")

    keys: set[str] = set(groups())
    for file in conf_dir().rglob("*.yaml"):
        content = OmegaConf.load(file)
        if not isinstance(content, DictConfig):
            continue
        content.pop("defaults", None)
        keys.update(walk(content, _package(file)))
    return tuple(sorted(k for k in keys if not k.startswith("hydra")))


def _package(file: Path) -> str:
    """Where the keys of a file of conf/ stand in the setting: `group.`, or what its line `# @package` says."""
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    named = first.removeprefix("# @package ").strip() if first.startswith("# @package ") else None
    package = "" if file.parent == conf_dir() else file.parent.name if named is None else named.replace("_global_", "")
    return f"{package}." if package else ""


def _first_comment(file: Path, *, longest: int = 110) -> str:
    """The first sentence of the comment at the top of a YAML file."""
    comment: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            comment.append(line.lstrip("# ").strip())
    sentence = re.split(r"(?<=[\w)])(?<!Eq)(?<!Fig)(?<!et al)\. ", " ".join(comment) + " ")[0].strip().removesuffix(".")
    return sentence if len(sentence) <= longest else sentence[:longest].rsplit(" ", 1)[0] + " …"


def _default_choices() -> dict[str, str]:
    """Group and option of each line of config.yaml's defaults list (a YAML parser would cost a tenth of a second)."""
    text = (conf_dir() / "config.yaml").read_text(encoding="utf-8")
    block = text.split("defaults:", 1)[1].split("\n\n", 1)[0]
    return dict(re.findall(r"^\s*-\s*(?:optional\s+)?(\w+):\s*(\w+)", block, re.MULTILINE))
