"""One HTML file that shows a sweep: it needs no network, no account and no other file to be read.

python -m headstudio.report html SWEEP
"""

from __future__ import annotations

from pathlib import Path

from headstudio.errors import UserError

NAME = "report.html"
MOST_IN_FULL = 200
"""More runs than this are told in tables and plots, without films and without their configs."""


def write_report(root: Path, out: Path | None = None) -> Path:
    """Write the report of a sweep, of one run or of a folder of them; returns where.

    Args:
        root: the folder.
        out: the file; None is `report.html` in the folder.

    Raises:
        UserError: if there is no run in the folder, or the file cannot be written.
    """
    from headstudio.files import put
    from headstudio.report import media, page
    from headstudio.report.collect import FILMS, collect

    out = out or root / NAME
    collection = collect(root, with_config=MOST_IN_FULL)
    if not out.parent.is_dir():
        raise UserError(f"The report cannot be written: there is no folder {out.parent}.")
    finished = [member for member in collection.members if member.state == "finished"]
    size = media.size_for(len(finished))
    paths = [member.directory / f"{name}.mp4" for member in finished for name in FILMS] if size else []
    films = media.sprites(paths, size) if paths else {}
    text = page.render(collection, out, films, in_full=len(collection.members) <= MOST_IN_FULL)
    try:
        put(out, text)
    except OSError as error:
        raise UserError(f"The report {out} cannot be written ({error.strerror}); name another with --out.") from error
    return out
