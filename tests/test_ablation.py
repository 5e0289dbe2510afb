"""Ablations as files: what a file becomes, what a command line makes of it, and every mistake as one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from headstudio import ablation, cli
from headstudio.errors import UserError
from headstudio.prompts import read_prompts

WHOLE: dict[str, Any] = {
    "title": "Two",
    "paper": "One should be better.",
    "base": ["metrics=semantic"],
    "prompts": {"default": "tiny3", "paper": "paper10"},
    "seeds": [0, 1],
    "arms": {
        "full": {"label": "full", "overrides": []},
        "none": {"label": "no regularisation", "overrides": ["reg=none"]},
        "tiny": {
            "default": {"label": "one pose", "overrides": ["scale.shared_pose=true"]},
            "paper": None,
        },
    },
    "figure": ["none", "full", "tiny"],
    "claims": [
        {"says": "It helps", "metric": "trace.alignment_early", "better": "full", "than": "none"},
        {"says": "It does no harm", "metric": "coverage", "better": "full", "than": "tiny", "margin": 0.1},
        {"default": {"says": "It too", "metric": "coverage", "better": "none", "than": "full"}, "paper": None},
    ],
}


def written(folder: Path, content: Any, name: str = "two") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return str(path)


def changed(at: str, value: Any) -> dict[str, Any]:
    """WHOLE with another value at a dotted place; None removes it."""
    content: dict[str, Any] = yaml.safe_load(yaml.safe_dump(WHOLE))
    *path, last = at.split(".")
    node: Any = content
    for part in path:
        node = node[int(part) if part.isdigit() else part]
    node[last] = value
    if value is None:
        del node[last]
    return content


def test_a_file_is_read_as_it_stands(tmp_path: Path) -> None:
    found = ablation.load(written(tmp_path, WHOLE))
    assert (found.name, found.title, found.base, found.seeds) == ("two", "Two", ("metrics=semantic",), (0, 1))
    assert found.prompts == tuple(read_prompts("tiny3"))
    assert found.arms["none"] == ablation.Arm("none", "no regularisation", ("reg=none",))
    assert found.figure.arms == ("none", "full", "tiny")
    first, second, _ = found.claims
    assert (first.metric, first.better, first.than, first.margin) == ("trace.alignment_early", "full", "none", 0.0)
    assert (first.prompts, second.margin) == (found.prompts, 0.1)


def test_the_papers_variant_leaves_out_what_has_no_sense_there(tmp_path: Path) -> None:
    found = ablation.load(written(tmp_path, WHOLE), "paper")
    assert found.prompts == tuple(read_prompts("paper10"))
    assert list(found.arms) == ["full", "none"]
    assert found.figure.arms == ("none", "full")
    assert [claim.says for claim in found.claims] == ["It helps"]


def test_without_a_figure_all_arms_are_its_columns_and_claims_may_choose_sentences(tmp_path: Path) -> None:
    content = changed("figure", None)
    one = read_prompts("tiny3")[1]
    content["claims"][0]["prompts"] = {"default": [one], "paper": "all"}
    path = written(tmp_path, content)
    assert ablation.load(path).figure == ablation.Figure(("full", "none", "tiny"))
    assert ablation.load(path).claims[0].prompts == (one,)
    assert ablation.load(path, "paper").claims[0].prompts == tuple(read_prompts("paper10"))


def test_a_figure_says_how_its_heads_are_seen(tmp_path: Path) -> None:
    views = {"default": ["face_open", "back"], "paper": ["front"]}
    given = {"arms": ["tiny", "full"], "views": views, "sentences": 2, "pixels": 90, "rows": "arms"}
    path = written(tmp_path, changed("figure", given))
    assert ablation.load(path).figure == ablation.Figure(("tiny", "full"), ("face_open", "back"), 2, 90, "arms")
    assert ablation.load(path, "paper").figure == ablation.Figure(("full",), ("front",), 2, 90, "arms")
    only_views = ablation.load(written(tmp_path, changed("figure", {"views": ["back"]}))).figure
    assert only_views == ablation.Figure(("full", "none", "tiny"), ("back",))


@pytest.mark.parametrize(
    ("at", "value", "sentence"),
    [
        ("title", None, "title is missing"),
        ("title", "", "title='' must be words"),
        ("tittle", "x", "tittle is not one of title, .* Did you mean 'title'"),
        ("prompts", "tiny9", "no list of prompts 'tiny9'"),
        ("seeds", [], r"seeds=\[\] must be a list of whole numbers"),
        ("seeds", [0, 1, 0], r"seeds=\[0, 1, 0\] must be without repetition"),
        ("seeds", [0, "x"], r"seeds=\[0, 'x'\] must be a list of whole numbers"),
        ("base", "reg=none", "base='reg=none' must be a list"),
        ("base", ["reg"], "base='reg' must be a list of overrides like reg=none"),
        ("base", ["seed=0"], "base='seed=0' must be without seed, which has its own line, seeds"),
        ("arms", {}, r"arms=\{\} must be a mapping of names"),
        ("arms.none.overides", [], "arms.none.overides is not one of label, overrides. Did you mean 'overrides'"),
        ("arms.none.overrides", None, "arms.none.overrides is missing"),
        ("arms.none.overrides", ["prompt=x"], "must be without prompt, which has its own line, prompts"),
        ("figure", ["ful"], r"figure.arms='ful' must be the name of an arm \(full, none, tiny\)"),
        ("figure", "full", "figure='full' must be a mapping with the keys arms, views, sentences, pixels, rows"),
        ("figure", {"view": ["front"]}, "figure.view is not one of arms, views, .*Did you mean 'views'"),
        ("figure", {"views": "front"}, "figure.views='front' must be a list"),
        ("figure", {"views": []}, r"figure.views=\[\] must be some of front, front_open, "),
        (
            "figure",
            {"views": ["mouth_opn"]},
            "figure.views: mouth_opn is not one of front, .*Did you mean 'mouth_open'",
        ),
        ("figure", {"sentences": 0}, "figure.sentences=0 must be a whole number of at least 1"),
        ("figure", {"pixels": "many"}, "figure.pixels='many' must be a whole number of at least 16"),
        ("figure", {"rows": "arm"}, "figure.rows='arm' is not one of sentences, arms. Did you mean 'arms'"),
        ("claims.0.than", "non", r"claims\[0\].than='non' must be the name of an arm"),
        ("claims.0.margin", -1, r"claims\[0\].margin=-1 must be a number of at least 0"),
        ("claims.0.prompts", ["a head"], r"claims\[0\].prompts='a head' must be a sentence of the ablation's list"),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence(at: str, value: Any, sentence: str, tmp_path: Path) -> None:
    path = written(tmp_path, changed(at, value))
    with pytest.raises(UserError, match=sentence) as told:
        ablation.load(path)
    assert "\n" not in str(told.value)


def test_what_is_no_mapping_or_no_yaml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be a mapping with the keys title, paper"):
        ablation.load(written(tmp_path, ["reg=none"]))
    for content in (b"arms: [", b"title: a\ntitle: b", b"\xff\xfe\x00"):
        (tmp_path / "broken.yaml").write_bytes(content)
        with pytest.raises(UserError, match=r"The ablation .*broken.yaml is no YAML"):
            ablation.load(str(tmp_path / "broken.yaml"))


def test_runs_are_base_arm_sentence_seed_and_then_the_users_own(tmp_path: Path) -> None:
    found = ablation.runs([written(tmp_path, WHOLE)], [["scale=smoke", "+x=1"]])
    first, second, third = (f"prompt='{sentence}'" for sentence in read_prompts("tiny3"))
    assert len(found) == 3 * 3 * 2
    assert found[0] == ["metrics=semantic", first, "seed=0", "scale=smoke", "+x=1"]
    assert found[1] == ["metrics=semantic", "reg=none", first, "seed=0", "scale=smoke", "+x=1"]
    assert found[3][1:3] == [second, "seed=0"]  # all arms of a sentence, all sentences of a seed
    assert found[8][2:4] == [third, "seed=0"]
    assert found[9][1:3] == [first, "seed=1"]


def test_the_users_prompt_seed_and_base_replace_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    found = ablation.runs([path], [["metrics=none", "seed=7", "prompt='a head'"]])
    assert found == [
        ["prompt='a head'", "seed=7", "metrics=none"],
        ["reg=none", "prompt='a head'", "seed=7", "metrics=none"],
        ["scale.shared_pose=true", "prompt='a head'", "seed=7", "metrics=none"],
    ]
    for own in ("reg=scaled", "scale.shared_pose=false"):
        with pytest.raises(UserError, match=rf"{own} would set for every arm of two what it compares"):
            ablation.runs([path], [[own]])


@pytest.mark.parametrize("experiment", ablation.OF_PAPER)
def test_an_experiment_takes_the_papers_variant(experiment: str, tmp_path: Path) -> None:
    found = ablation.runs([written(tmp_path, WHOLE)], [[f"experiment={experiment}"], ["scale=smoke"]])
    assert len(found) == 2 * 10 * 2 + 3 * 3 * 2
    assert found[0][1:] == [f"prompt='{read_prompts('paper10')[0]}'", "seed=0", f"experiment={experiment}"]


def test_runs_of_several_ablations_are_shared(tmp_path: Path) -> None:
    other = changed("arms", {"full": {"label": "f", "overrides": []}, "x": {"label": "x", "overrides": ["init=area"]}})
    other |= {"figure": ["x"], "claims": []}
    found = ablation.runs([written(tmp_path, WHOLE), written(tmp_path, other, "other")], [["scale=smoke"]])
    assert len(found) == len({tuple(run) for run in found}) == (3 + 1) * 3 * 2


def test_an_ablation_names_its_runs_as_the_sweep_does(tmp_path: Path) -> None:
    """A reader of results composes `overrides`; they have to mean what was run, quotes and all."""
    (tmp_path / "list.txt").write_text("it's a head, with \\ and 'quotes'\n")
    path = written(tmp_path, changed("prompts", str(tmp_path / "list.txt")))
    found = ablation.load(path)
    runs = ablation.runs([path], [[]])
    assert runs == [list(found.overrides(arm, p, s)) for s in found.seeds for p in found.prompts for arm in found.arms]
    assert OverridesParser.create().parse_override(runs[0][1]).value() == found.prompts[0]


class Recorder:
    """A launcher that only remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[list[str]]] = []

    def launch(self, batch: Sequence[Sequence[str]], initial_job_idx: int) -> list[None]:
        assert initial_job_idx == sum(map(len, self.batches))
        self.batches.append([list(run) for run in batch])
        return [None] * len(batch)


def swept(folder: Path, *arguments: str, most: int | None = None) -> list[list[list[str]]]:
    """The batches that the sweeper hands to its launcher."""
    Plugins.instance()  # loads every plugin afresh; a class of before is no longer one of them
    from hydra_plugins.headstudio_launchers.sweeper import GridSweeper

    sweeper = GridSweeper(max_batch_size=most)
    sweeper.launcher = recorder = Recorder()  # type: ignore[assignment]
    sweeper.hydra_context = SimpleNamespace(config_loader=None)  # type: ignore[assignment]
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder / "sweep")}}})
    sweeper.sweep(list(arguments))
    return recorder.batches


def test_the_sweeper_runs_every_arm_of_the_users_grid(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    (batch,) = swept(tmp_path, f"+ablation={path}", "prompt='a, b','c'", "guidance=sds,fsds", "seed=4")
    assert batch[:2] == [
        ["metrics=semantic", "prompt='a, b'", "seed=4", "guidance=sds"],
        ["metrics=semantic", "reg=none", "prompt='a, b'", "seed=4", "guidance=sds"],
    ]
    assert len(batch) == 3 * 2 * 2
    assert not any("ablation" in word for run in batch for word in run)
    chunks = swept(tmp_path, f"+ablation={path}", "seed=0", most=4)
    assert [len(chunk) for chunk in chunks] == [4, 4, 1]
    assert swept(tmp_path, "seed=0,1", "reg=none") == [[["seed=0", "reg=none"], ["seed=1", "reg=none"]]]


def test_a_command_line_that_cannot_run_is_refused_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    ablation.check(["-m", f"+ablation={path}, fig7_f3dgs", "seed=0"])
    ablation.check(["seed=0"])
    with pytest.raises(UserError, match=r"\+ablation=fig7_f3dgs makes several runs: add -m"):
        ablation.check(["+ablation=fig7_f3dgs"])
    with pytest.raises(UserError, match=r"\+ablation=fig7 does not exist.* table1\. Did you mean 'fig7_f3dgs'"):
        ablation.check(["-m", "+ablation=fig7"])
    broken = written(tmp_path, changed("prompts.paper", "tiny9"), "broken")
    with pytest.raises(UserError, match="no list of prompts 'tiny9'"):  # also where it is the other variant's
        ablation.check(["-m", f"+ablation={broken}"])
    unknown = written(tmp_path, changed("claims.0.metric", "mouth_holes"), "unknown")
    with pytest.raises(UserError, match=r"The ablation unknown: .* about 'mouth_holes', which is no number"):
        ablation.check(["-m", f"+ablation={unknown}"])
    assert cli._explain_argument("ablation=x") == "ablation=x lacks its plus sign: +ablation=x."


def test_ablations_share_a_folder_and_stand_in_the_help() -> None:
    assert cli.with_sweep_folder(["-m", "+ablation=a,b", "seed=0"])[-1] == "hydra.sweep.dir=multirun/ablations"
    given = ["-m", "+ablation=a", "hydra.sweep.dir=mine"]
    assert cli.with_sweep_folder(given) == given
    told = cli.help_text()
    for name, file in ablation.files().items():
        assert f"{name:<19}  {file.read_text().partition(chr(10))[0].lstrip('# ')}" in told


def test_the_example_of_contributing_is_an_ablation(tmp_path: Path) -> None:
    page = (
        (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text().partition("## An ablation")[2].partition("\n## ")[0]
    )
    example = "".join(f"{line[4:]}\n" for line in page.splitlines() if line.startswith("    "))
    (tmp_path / "example.yaml").write_text(example)
    assert all(ablation.load(str(tmp_path / "example.yaml"), variant).claims for variant in ablation.VARIANTS)
