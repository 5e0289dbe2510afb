"""Where a motion stands: play, pause, scrub and speed, by a clock that tests can set."""

from __future__ import annotations

import time
from collections.abc import Callable


class Player:
    """The position in a motion that begins again at its end.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._length = self._position = 0.0
        self._since: float | None = None  # when it began to play from `_position`; None: it stands still
        self._speed = 1.0

    def load(self, seconds: float) -> None:
        """Take a motion of so many seconds and stand at its beginning; 0 is none."""
        self._length, self._position = seconds, 0.0
        self._since = None

    @property
    def playing(self) -> bool:
        return self._since is not None

    @property
    def position(self) -> float:
        """Seconds since the motion's beginning, within it."""
        if self._since is None or not self._length:
            return self._position
        return (self._position + (self._clock() - self._since) * self._speed) % self._length

    def play(self) -> None:
        if self._length and not self.playing:
            self._since = self._clock()

    def pause(self) -> None:
        self._position, self._since = self.position, None

    def seek(self, seconds: float) -> None:
        """Go to an instant, playing or not."""
        self._position = min(max(seconds, 0.0), self._length)
        self._since = self._clock() if self.playing else None

    def set_speed(self, factor: float) -> None:
        """From here on, `factor` seconds of the motion in a second."""
        self.seek(self.position)
        self._speed = factor
