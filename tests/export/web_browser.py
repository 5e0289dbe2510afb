"""What the tests ask of a page with a head in it."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from browser import Browser
from PIL import Image
from torch import Tensor

from headstudio.render.cpu import CpuRenderer
from headstudio.types import Cameras, Pose

SIDE = 256  # pixels of the canvas


def load(browser: Browser, path: Path, *, width: int = 900, dark: bool = False, canvas: int | None = SIDE) -> None:
    """Open a page at rest (`prefers-reduced-motion`), with a square canvas of that many pixels."""
    features = {"prefers-reduced-motion": "reduce", "prefers-color-scheme": "dark" if dark else "light"}
    media = {"features": [{"name": name, "value": value} for name, value in features.items()]}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.open(path, width)
    wait(lambda: browser.js("return Boolean(window.headstudio) || !document.getElementById('trouble').hidden"))
    assert browser.texts("#trouble") == [""]
    if canvas is not None:
        size = "document.querySelector('.stage').style.cssText = `width: ${arguments[0]}px; height: ${arguments[0]}px; "
        browser.js(size + "min-height: 0; border: 0`", canvas)
        wait(lambda: browser.js("headstudio.picture(); return headstudio.camera().width") == canvas)


def wait(happened: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def set_value(browser: Browser, selector: str, value: float | str) -> None:
    """Move a slider, or choose a colour, as a person does."""
    script = "const e = document.querySelector(arguments[0]); e.value = arguments[1]; "
    browser.js(
        script + "for (const n of ['input', 'change']) e.dispatchEvent(new Event(n, {bubbles: true}))", selector, value
    )


def slide(browser: Browser, group: str, label: str, value: float) -> None:
    """Move the slider of that name in that group."""
    found = browser.js(
        "const all = (root, what) => Array.from(root.querySelectorAll(what)), [group, label] = arguments;"
        "const box = all(document, 'fieldset').find((f) => f.querySelector('legend').textContent === group);"
        "const row = all(box, '.slider').find((r) => r.querySelector('span').textContent === label);"
        "return all(document, 'input').indexOf(row.querySelector('input'))",
        group,
        label,
    )
    browser.js("document.querySelectorAll('input')[arguments[0]].id = 'moved'", found)
    set_value(browser, "#moved", value)
    browser.js("document.getElementById('moved').removeAttribute('id')")


def picture(browser: Browser) -> Tensor:
    """(3, H, W) in [0, 1]."""
    address = browser.js("return headstudio.picture()")
    with Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))) as png:
        return torch.from_numpy(np.array(png.convert("RGB"))).permute(2, 0, 1) / 255.0


def vertices(browser: Browser) -> Tensor:
    browser.js("headstudio.picture()")
    return torch.tensor(browser.js("return headstudio.vertices()")).view(-1, 3)


def cameras(browser: Browser) -> Cameras:
    """The page's camera as ours."""
    seen = browser.js("return headstudio.camera()")
    width, height, focal = int(seen["width"]), int(seen["height"]), float(seen["focal"])
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    view = torch.tensor(seen["view"]).view(4, 4).T
    return Cameras(view[None], intrinsics[None], torch.zeros(1), torch.zeros(1), width, height)


def psnr_db(one: Tensor, other: Tensor) -> float:
    return -10.0 * math.log10(float((one - other).square().mean()))


@torch.no_grad()
def ours(avatar: Any, pose: Pose, seen: Cameras, background: tuple[float, float, float]) -> Tensor:
    scene = avatar.pose(pose)[2]
    return avatar.renderer(CpuRenderer(threads=1))(scene, seen, torch.tensor(background)).rgb[0]
