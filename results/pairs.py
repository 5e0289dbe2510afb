"""Two arms of an ablation, by interval and test of its page, but claimed after the runs and so without correction.

python results/pairs.py fig7_f3dgs area full coverage               # better arm, than which, by what
python results/pairs.py fig8_fsds full denoised clip_score 1,2   # in these seeds alone
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from headstudio.ablation import Claim, load
from headstudio.errors import UserError
from headstudio.report.ablation_runs import read_rows
from headstudio.report.ablation_verdict import judge


def told(name: str, better: str, than: str, metric: str, seeds: str | None = None) -> str:
    """Gain (positive: `better` is the better one), its 95 % interval, for how many sentences, and p."""
    wanted = load(name, "default")
    for arm in (better, than):
        if arm not in wanted.arms:
            raise UserError(f"{arm!r} is no arm of {name}, which has {', '.join(wanted.arms)}.")
    if seeds is not None:
        if not all(seed.isdecimal() for seed in seeds.split(",")):
            raise UserError(f"{seeds!r} must be one seed or several, with commas between them.")
        wanted = replace(wanted, seeds=tuple(map(int, seeds.split(","))))
    claim = Claim(says="", metric=metric, better=better, than=than, margin=0.0, prompts=wanted.prompts)
    rows = read_rows(Path(__file__).parent / name / "runs.csv")
    (finding,) = judge(replace(wanted, claims=(claim,)), rows)
    if finding.gain is None or finding.p is None:
        return f"{name}: pairs of {better} and {than} are missing"
    gain, means = finding.gain, finding.gains.mean(1)
    p = "< 0.001" if finding.p < 0.0005 else f"= {finding.p:.3f}"
    return (
        f"{name}: {better} over {than}, {metric} {gain.mean:+.4f} [{gain.low:+.4f} to {gain.high:+.4f}], "
        f"better for {int((means > 0).sum())} of {len(means)} sentences, p {p}"
    )


if __name__ == "__main__":
    if len(sys.argv) not in (5, 6):
        sys.exit(__doc__)
    try:
        sys.stdout.write(told(*sys.argv[1:]) + "\n")
    except UserError as error:
        sys.exit(str(error))
