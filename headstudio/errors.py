"""The one exception that means: the user can fix this."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend; its text is one sentence naming the key, the value and what would be right."""
