"""What is here, what is missing and how to get it, and which settings can run.

    python -m headstudio.doctor                            the default, the paper's and the released code's setting
    python -m headstudio.doctor experiment=paper KEY=VALUE  one setting, as you would give it to headstudio.run
    python -m headstudio.doctor --json                     the same for a program

Nothing is made, downloaded or changed, and no network is asked. The exit code is 0 if every setting that was named
(without any: the default) can run, 1 if not, 2 if a setting is no setting.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from headstudio.doctor import machine, page
from headstudio.doctor.setting import Setting, examine
from headstudio.errors import UserError
from headstudio.findings import Finding

DEFAULT: tuple[str, ...] = ()
KNOWN = (DEFAULT, ("experiment=paper",), ("experiment=official",))


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the user's mistakes are one sentence and exit code 2."""
    words = sys.argv[1:] if words is None else list(words)
    if {"-h", "--help"} & set(words):
        sys.stdout.write(f"{__doc__}")
        return 0
    logging.basicConfig(format="%(message)s", level=logging.ERROR)
    overrides = tuple(word for word in words if word != "--json")
    try:
        if wrong := [word for word in overrides if word.startswith("-") or "=" not in word]:
            raise UserError(f"{wrong[0]} is neither --json nor a setting like experiment=paper or head.path=FOLDER.")
        gpus = list(machine.gpus())
        works = not any(f.stops for f in gpus) and any(f.what.startswith("GPU ") for f in gpus)
        settings = [examine(chosen, gpu=works) for chosen in ((overrides,) if overrides else KNOWN)]
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    computer = [*machine.computer(Path.cwd()), *machine.packages(), *machine.shipped(), *gpus]
    programs = list(machine.programs())
    if "--json" in words:
        _print_json(computer, programs, settings)
    else:
        _print_page(computer, programs, settings)
    basics = any(f.stops for f in computer if f not in gpus)
    return int(basics or bool(settings[0].stopped_by))


def _print_page(computer: list[Finding], programs: list[Finding], settings: Sequence[Setting]) -> None:
    lines = ["headstudio", *page.section("This machine", computer), *page.section("For some commands", programs)]
    told: set[Finding] = set()
    for setting in settings:
        fresh = [finding for finding in setting.findings if finding not in told]
        told |= set(fresh)
        lines += page.section(f"For {setting.command}", fresh)
    lines += page.verdicts(settings)
    sys.stdout.write("\n".join(lines) + "\n")


def _print_json(computer: list[Finding], programs: list[Finding], settings: Sequence[Setting]) -> None:
    told = {
        "machine": list(map(_plain, computer)),
        "programs": list(map(_plain, programs)),
        "settings": [
            {"command": s.command, "runs": not s.stopped_by, "findings": list(map(_plain, s.findings))}
            for s in settings
        ],
    }
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


def _plain(finding: Finding) -> dict[str, str]:
    """Without the files, of which a corpus has thousands; where they are stands in the detail."""
    return {key: value for key, value in asdict(finding).items() if key != "files"}


if __name__ == "__main__":
    sys.exit(main())
