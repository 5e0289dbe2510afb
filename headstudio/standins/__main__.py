"""Stand-ins for everything that the paper's setting reads, to rehearse it on any machine.

    python -m headstudio.standins FOLDER             FLAME's, Realistic Vision's, the ControlNet's and TalkSHOW's files
    python -m headstudio.standins FOLDER --real-size the networks in their real size: 6 GB of random numbers, for a GPU

They have the real names, layouts and shapes and made-up content: what works with them works with the real files, but
no head comes of it. The networks are a tenth as wide and see pictures of 128 pixels unless told otherwise. FOLDER/env
sets the variables that point to them; nothing outside FOLDER is written.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from headstudio.errors import UserError

VARIABLES = {
    "path": "HEADSTUDIO_RV51",
    "vae_path": "HEADSTUDIO_RV51_VAE",
    "controlnet_path": "HEADSTUDIO_CONTROLNET",
}


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the user's mistakes are one sentence and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m headstudio.standins", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", type=Path)
    parser.add_argument("--real-size", action="store_true")
    chosen = parser.parse_args(words)
    try:
        small = {} if chosen.real_size else {"divisor": 10, "sample_size": 16}
        env = write_all(chosen.folder.absolute(), **small)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(
        f"Stand-ins are in {chosen.folder}; they draw nothing. To rehearse the paper's setting with them:\n\n"
        f"    . {shlex.quote(str(env))}\n"
        "    python -m headstudio.doctor experiment=paper scale=smoke metrics=tiny_clip\n"
        "    python -m headstudio.run -m experiment=paper scale=smoke metrics=tiny_clip seed=0,1\n"
    )
    return 0


def write_all(folder: Path, *, divisor: int = 1, sample_size: int | None = None) -> Path:
    """Write FLAME 2020, Realistic Vision 5.1 with VAE and ControlNet, and a TalkSHOW clip.

    Args:
        folder: made if it is not there.
        divisor, sample_size: see `diffusion.write_prior`.

    Returns:
        The file that sets the variables.

    Raises:
        UserError: the folder cannot be written.
    """
    from headstudio.standins.diffusion import write_prior
    from headstudio.standins.flame import write_flame
    from headstudio.standins.motion import write_talkshow

    try:
        variables = {"HEADSTUDIO_FLAME": str(write_flame(folder / "flame").parent)}
        variables["HEADSTUDIO_MOTION"] = str(write_talkshow(folder / "motion").parent)
        prior = write_prior(folder / "models", "rv51", divisor=divisor, sample_size=sample_size)
        variables |= {name: str(getattr(prior, key)) for key, name in VARIABLES.items()}
        env = folder / "env"
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
        env.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror or error}); name another folder.") from error
    return env


if __name__ == "__main__":
    sys.exit(main())
