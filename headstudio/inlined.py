"""Pages that are one file: a template with its scripts and styles inside, which runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def environment(package: str, folder: str) -> Environment:
    """Templates of a package's folder; all that they are given is escaped but what goes through `inline`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters["inline"] = _inline
    return made


def policy_hash(script: str) -> str:
    """What a page's content policy lets run: this very script and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _inline(text: str) -> Markup:
    """Our own script or style, as it is; nothing of a user's goes through here."""
    from markupsafe import Markup

    return Markup(text)
