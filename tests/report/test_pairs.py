"""results/pairs.py says of a claimed pair what the claim's page says, but for the correction."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "results"


def said(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, RESULTS / "pairs.py", *words], capture_output=True, text=True, check=False)


def test_a_claimed_pair_has_the_pages_gain() -> None:
    page = (RESULTS / "fig8_fsds" / "README.md").read_text(encoding="utf-8")
    assert (
        "better than *+ training with animation* by 0.290 in Alignment in motion (95 % interval +0.205 to +0.396"
        in page
    )
    done = said("fig8_fsds", "controlled", "animated", "alignment_animation")
    assert done.returncode == 0, done.stderr
    assert "alignment_animation +0.29" in done.stdout
    assert "[+0.20" in done.stdout
    assert "better for 8 of 8 sentences" in done.stdout


def test_the_other_way_round_is_the_opposite_gain() -> None:
    there, back = (
        said("fig6_no_mouth", *arms, "mouth_hole").stdout for arms in (("full", "motion_none"), ("motion_none", "full"))
    )
    assert "mouth_hole +0.21" in there
    assert "mouth_hole -0.21" in back


def test_one_seed_alone() -> None:
    """The mean over the seeds is that of the seeds' own gains."""
    done = [said("fig6_no_mouth", "full", "motion_none", "mouth_hole", *seed).stdout for seed in ((), *"012")]
    whole, *single = (float(text.split("mouth_hole ")[1].split()[0]) for text in done)
    assert abs(sum(single) / 3 - whole) < 1e-3
    assert len(set(single)) == 3


def test_without_words_it_says_how() -> None:
    done = said()
    assert done.returncode == 1
    assert "python results/pairs.py fig7_f3dgs area full coverage" in done.stderr
