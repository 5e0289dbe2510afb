"""The viewer in a real browser: the head is there and moves, keys work, and the console stays silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import SOFTWARE_GL, Browser, chromium, needs_browser
from finished_run import finished
from test_view import free_port

from headstudio.motion.arkit import ARKIT_NAMES, INDEX
from headstudio.motion.recording import Recording
from headstudio.view.app import Viewer
from headstudio.view.motions import Motion

PATIENCE_S = 90.0  # a browser without a GPU draws slowly
OF_VISER = "computeBoundingSphere(): Computed radius is NaN"  # viser 1.1.1 says it of any splats, random ones too


@contextmanager
def served(runs: list[Path], motions: dict[str, Motion]) -> Iterator[tuple[Viewer, Any]]:
    """A viewer that redraws in a thread."""
    import viser

    server = viser.ViserServer(host="127.0.0.1", port=free_port(), verbose=False)
    viewer, stop = Viewer(server, runs, motions), threading.Event()

    def redraw() -> None:
        while not stop.is_set():
            viewer.tick()
            time.sleep(0.05)

    thread = threading.Thread(target=redraw)
    thread.start()
    try:
        yield viewer, server
    finally:
        stop.set()
        thread.join()
        server.stop()


def wait_for(what: Callable[[], Any], why: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = what()
        if found is not None and found is not False:
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {PATIENCE_S:g} s: {why}")


def seen(client: Any) -> Any:
    """(H, W, 4) what the browser draws of the scene, in the page's own shape; transparent where nothing is."""
    return client.get_render(96, 128, transport_format="png", timeout=PATIENCE_S).astype(int)


def there(picture: Any) -> bool:
    """A red head in the middle, and nothing in the corners."""
    middle, corner = picture[30:60, 54:74], picture[:8, :8]
    red = middle[..., 0].mean() > middle[..., 2].mean() + 50
    return bool(middle[..., 3].mean() > 200 and corner[..., 3].mean() < 20 and red)


def differs(picture: Any, other: Any) -> bool:
    return bool(np.abs(picture - other).sum() > 2000)


def press(browser: Browser, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        event = {"type": kind, "key": key, "code": "Space" if key == " " else f"Key{key.upper()}", "text": key}
        browser.driver.execute_cdp_cmd("Input.dispatchKeyEvent", event)


@needs_browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_head_is_seen_moved_and_played(tmp_path: Path) -> None:
    pytest.importorskip("viser")
    finished(tmp_path / "run")
    arkit = np.zeros((90, len(ARKIT_NAMES)), np.float32)
    arkit[:, INDEX["jawOpen"]] = np.sin(np.linspace(0, np.pi, 90))
    motions = {"yawn": Motion(Recording(source="made", fps=30, arkit=arkit))}
    with (
        served([tmp_path / "run"], motions) as (viewer, server),
        chromium(tmp_path / "profile", *SOFTWARE_GL) as browser,
    ):
        size = {"width": 480, "height": 360, "deviceScaleFactor": 1, "mobile": False}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.driver.get(f"http://127.0.0.1:{server.get_port()}")
        client = wait_for(lambda: next(iter(server.get_clients().values()), None), "a visitor")
        rest = wait_for(lambda: p if there(p := seen(client)) else None, "a head, and nothing around it")

        viewer.face_panel._sliders["jawOpen"].value = 1.0
        opened = wait_for(lambda: p if differs(p := seen(client), rest) else None, "an open mouth")
        changed = np.abs(opened - rest).max(-1) > 40
        assert changed[48:].sum() > 2 * changed[:48].sum()  # below the middle
        press(browser, "r")
        wait_for(lambda: not viewer.face_panel.face.expression, "the key R")

        press(browser, " ")
        wait_for(lambda: viewer.player.playing and viewer.player.position > 0.3, "the space bar")
        wait_for(lambda: differs(seen(client), rest), "the motion")
        press(browser, " ")
        wait_for(lambda: not viewer.player.playing, "the space bar again")
        press(browser, "m")
        wait_for(lambda: viewer.layer_panel.layers(()).mesh, "the key M")
        said = [line["message"] for line in browser.driver.get_log("browser") if line["level"] == "SEVERE"]
        assert [line for line in said if OF_VISER not in line] == []
        browser.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000
