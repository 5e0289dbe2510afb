"""Look at heads in the browser, drive them with sliders, play motions, watch a training run.

    python -m headstudio.view RUN                   a finished run, or one that is training: it is redrawn as it learns
    python -m headstudio.view RUN OTHER             two side by side
    python -m headstudio.view SWEEP                 any run of a sweep, chosen on the page
    python -m headstudio.view RUN --motion take.csv

Over SSH: ssh -L 8080:localhost:8080 HOST python -m headstudio.view RUN, and open http://localhost:8080 here.
"""

from __future__ import annotations

import argparse
import logging
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from headstudio.drivers import as_option
from headstudio.errors import UserError


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the user's mistakes are one sentence and exit code 2."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    logging.getLogger("websockets").setLevel(logging.WARNING)  # it tells of every visitor
    try:
        return _view(parser().parse_args(words))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("The viewer is closed.\n")
        return 0


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    usage = argparse.RawDescriptionHelpFormatter
    found = argparse.ArgumentParser("python -m headstudio.view", description=__doc__, formatter_class=usage)
    found.add_argument("runs", metavar="RUN|SWEEP", type=Path, nargs="+", help="directories of runs or sweeps")
    found.add_argument(
        "--motion", type=Path, action="append", default=[], help="a recorded motion; several may be given"
    )
    found.add_argument("--motion-fps", type=float, help="frames a second of a motion that does not say its own")
    found.add_argument("--audio", type=Path, action="append", default=[], help="speech that the head says aloud")
    found.add_argument("--port", type=int, default=8080, help="the one port that is used (default: %(default)s)")
    found.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    return found


def _view(given: argparse.Namespace) -> int:
    from headstudio.motion.files import read_file
    from headstudio.view.subject import Subject, runs_in, told_apart

    found = [run for folder in given.runs for run in runs_in(folder.expanduser())]
    runs = list({run.resolve(): run for run in found}.values())
    for name, paths in (("--motion", given.motion), ("--audio", given.audio)):
        if missing := next((path for path in paths if not path.is_file()), None):
            raise UserError(f"{name} {missing} is no file.")
    require_free(given.host, given.port)

    from headstudio.view.app import Viewer
    from headstudio.view.motions import Motion, spoken

    files = list(dict.fromkeys([*given.motion, *given.audio]))
    names = dict(zip(files, told_apart(files), strict=True))
    motions: dict[str, Motion] = {}
    try:
        motions |= {names[path]: Motion(read_file(path, fps=given.motion_fps)[0]) for path in given.motion}
        motions |= {names[path]: spoken(path) for path in given.audio}
    except UserError as error:
        raise UserError(as_option(str(error)).replace("audio=", "--audio ", 1)) from error
    first = {run: Subject(run) for run in runs[:2]}  # what is shown first is there before the page is
    import viser

    server = viser.ViserServer(host=given.host, port=given.port, label="headstudio", verbose=False)
    viewer = Viewer(server, runs, motions, first)
    logging.info("http://%s:%d  (Ctrl-C closes it)", given.host, server.get_port())
    try:
        viewer.serve()
    finally:
        server.stop()
    return 0


def require_free(host: str, port: int) -> None:
    """Raise UserError unless the port can be had; viser itself would take the next one in silence."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror:
            raise UserError(f"--host {host} is no address of this machine; 127.0.0.1 or 0.0.0.0 is.") from None
        except OverflowError:
            raise UserError(f"--port {port} does not exist: ports go from 0 to 65535.") from None
        except OSError as problem:
            raise UserError(f"--port {port} of {host} cannot be had ({problem}); name another, --port 8081.") from None


if __name__ == "__main__":
    sys.exit(main())
