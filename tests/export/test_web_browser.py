"""Pages as a person meets them, in a real Chromium: what they draw against our own renderer, and what drives them."""

from __future__ import annotations

import math
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import SOFTWARE_GL, Browser, chromium, needs_browser
from web_browser import cameras, load, ours, picture, psnr_db, set_value, slide, vertices, wait
from web_pages import HOSTILE, mesh, opened, rigged, static

from headstudio.export.web import write_web
from headstudio.head.anny import load_anny
from headstudio.head.model import HeadModel
from headstudio.motion.arkit import pose_of, weights_of
from headstudio.types import Pose

pytestmark = [pytest.mark.slow, needs_browser]

VERTEX_TOLERANCE = 5e-5  # world units, of a head 1.5 high: quantised directions and film, float32
FRAMES = 6


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile"), *SOFTWARE_GL) as opened_browser:
        yield opened_browser


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_anny(num_shape=4)


def any_film(head: HeadModel) -> Pose:
    """Poses with every expression and joint in use; the first is neutral."""
    generator = torch.Generator().manual_seed(1)
    film = Pose(
        expression=0.5 * torch.rand(FRAMES, head.num_expression, generator=generator),
        joints=0.2 * torch.randn(FRAMES, head.num_joints, 3, generator=generator),
    )
    film.expression[0], film.joints[0] = 0.0, 0.0
    return film


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, head: HeadModel) -> tuple[Path, Any]:
    """A rigged avatar of the default size, and itself."""
    avatar = rigged(head)
    path = tmp_path_factory.mktemp("page") / "head ü.html"
    return write_web(opened(avatar, HOSTILE), path, motion=any_film(head), fps=2.0), avatar


def frame(film: Pose, number: int) -> Pose:
    return Pose(expression=film.expression[number : number + 1], joints=film.joints[number : number + 1])


def test_pictures_are_those_of_our_renderer(browser: Browser, page: tuple[Path, Any], head: HeadModel) -> None:
    path, avatar = page
    load(browser, path)
    set_value(browser, "#background", "#ff8000")
    colour = (1.0, 128 / 255, 0.0)
    first = cameras(browser)
    assert psnr_db(picture(browser), ours(avatar, head.neutral_pose(), first, colour)) > 50.0
    browser.js("for (let i = 0; i < 9; i++) dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))")
    browser.js("for (let i = 0; i < 4; i++) dispatchEvent(new KeyboardEvent('keydown', {key: '+'}))")
    set_value(browser, "#frame", 3)
    turned = cameras(browser)
    assert (turned.camera_from_world - first.camera_from_world).abs().max() > 0.3
    assert psnr_db(picture(browser), ours(avatar, frame(any_film(head), 3), turned, colour)) > 50.0
    assert [error for error in browser.errors() if "GL Driver Message" not in error] == []


@pytest.mark.parametrize(("make", "bound_db"), [(static, 50.0), (mesh, 32.0)])
def test_other_representations_are_drawn(
    browser: Browser, tmp_path: Path, head: HeadModel, make: Any, bound_db: float
) -> None:
    avatar = make(head)
    film = any_film(head)
    load(browser, write_web(opened(avatar), tmp_path / "page.html", motion=film, fps=2.0))
    set_value(browser, "#background", "#000000")
    number = 0 if make is static else 2
    if number:
        set_value(browser, "#frame", number)
    wanted = ours(avatar, frame(film, number), cameras(browser), (0.0, 0.0, 0.0))
    assert psnr_db(picture(browser), wanted) > bound_db
    assert browser.js("return document.querySelectorAll('#play, .panel').length") == (0 if make is static else 2)


def test_the_rig_is_our_head(browser: Browser, tmp_path: Path, tiny_head: HeadModel, head: HeadModel) -> None:
    """The tiny head has pose correctives; the open head has 52 expressions."""
    for each in (tiny_head, head):
        avatar, film = rigged(each, per_triangle=1), any_film(each)
        load(browser, write_web(opened(avatar), tmp_path / "page.html", motion=film, fps=2.0), canvas=64)
        for number in range(FRAMES):
            set_value(browser, "#frame", number)
            with torch.no_grad():
                wanted = each(avatar.shape, frame(film, number)).vertices[0]
            assert (vertices(browser) - wanted).abs().max() < VERTEX_TOLERANCE


def test_sliders_drive_the_head(browser: Browser, page: tuple[Path, Any], head: HeadModel) -> None:
    path, avatar = page
    load(browser, path)
    closed = picture(browser)
    slide(browser, "Jaw", "Open", 0.7)
    with torch.no_grad():
        wanted = head(avatar.shape, pose_of(head, weights_of({"jawOpen": 0.7})[None])).vertices[0]
    assert (vertices(browser) - wanted).abs().max() < VERTEX_TOLERANCE
    assert (picture(browser) - closed).abs().amax(0).gt(0.1).float().mean() > 0.01
    shown = (
        "return Array.from(document.querySelectorAll('.slider')).map((r) => r.textContent.replace(/\\s+/g, ' ').trim())"
    )
    assert "Open 0.70" in browser.js(shown)
    assert "jaw open 0.70" in browser.js(shown)  # the same, among all
    slide(browser, "Neck", "Turn", 20)
    with torch.no_grad():
        pose = pose_of(head, weights_of({"jawOpen": 0.7})[None], neck_deg=torch.tensor([[20.0, 0.0, 0.0]]))
        wanted = head(avatar.shape, pose).vertices[0]
    assert (vertices(browser) - wanted).abs().max() < VERTEX_TOLERANCE
    browser.click("#neutral")
    assert psnr_db(picture(browser), closed) > 60.0  # the film's first frame is neutral up to its steps


def test_the_film_plays_pauses_and_is_scrubbed_between_frames(browser: Browser, page: tuple[Path, Any]) -> None:
    path, _ = page
    load(browser, path)
    first = picture(browser)
    browser.click("#play")
    wait(lambda: browser.js("return Number(document.getElementById('where').textContent.slice(0, 3)) > 0.2"))
    browser.click("#play")
    held = picture(browser)
    assert (held - first).abs().max() > 0.1
    time.sleep(0.6)
    assert torch.equal(picture(browser), held)
    assert browser.texts("#play") == ["Play"]


def test_half_way_between_two_frames_is_half_way(browser: Browser, page: tuple[Path, Any], head: HeadModel) -> None:
    """Weights are linear in time; the page's own arithmetic is asked, as no slider stops there."""
    path, _ = page
    load(browser, path, canvas=64)
    turn = "return turnBetween([0.3, -0.2, 0.1], [-0.4, 0.5, 0.2], arguments[0])"
    from scipy.spatial.transform import Rotation, Slerp

    ends = Rotation.from_rotvec([[0.3, -0.2, 0.1], [-0.4, 0.5, 0.2]])
    for share in (0.0, 0.25, 0.5, 1.0):
        assert np.allclose(browser.js(turn, share), Slerp([0, 1], ends)(share).as_rotvec(), atol=1e-9)
    weights = browser.js(
        "const arrays = {film_weights: Float32Array.of(0, 1, 0.5, 0), film_turns: new Float32Array(6)};"
        "const film = new Film(arrays, 1, 1, 2);"
        "const values = new Float32Array(5); film.at(0.5, values); return Array.from(values)"
    )
    assert weights == [0.25, 0.5, 0, 0, 0]


def test_keys_play_turn_and_leave_sliders_alone(browser: Browser, page: tuple[Path, Any]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    path, _ = page
    load(browser, path, canvas=96)
    canvas, body = browser.driver.find_element(By.ID, "canvas"), browser.driver.find_element(By.TAG_NAME, "body")
    start = browser.js("return headstudio.camera()")
    canvas.send_keys(Keys.ARROW_LEFT)
    turned = browser.js("return headstudio.camera()")
    assert turned["view"][0] == pytest.approx(math.cos(math.radians(5)), abs=1e-6)
    canvas.send_keys("+")
    assert browser.js("return headstudio.camera()")["view"][14] < start["view"][14]
    slider = browser.driver.find_element(By.CSS_SELECTOR, "input[data-of='common']")
    before = browser.js("return headstudio.camera()")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert browser.js("return headstudio.camera()") == before
    assert float(slider.get_attribute("value") or 0) == pytest.approx(0.01)
    body.send_keys("0")
    assert browser.js("return headstudio.camera()") == start
    body.send_keys(" ")
    assert browser.texts("#play") == ["Pause"]
    body.send_keys(" ")
    assert browser.texts("#play") == ["Play"]


def test_a_finger_turns_and_two_fingers_zoom(browser: Browser, page: tuple[Path, Any]) -> None:
    path, _ = page
    load(browser, path, canvas=100)
    touch = """
    const canvas = document.getElementById("canvas");
    canvas.setPointerCapture = () => {};
    for (const [type, id, x, y] of arguments[0]) canvas.dispatchEvent(
      new PointerEvent(type, {pointerId: id, clientX: x, clientY: y, bubbles: true}));
    return headstudio.camera().view"""
    turned = browser.js(touch, [["pointerdown", 1, 50, 50], ["pointermove", 1, 75, 50], ["pointerup", 1, 75, 50]])
    assert turned[0] == pytest.approx(math.cos(math.radians(45)), abs=1e-6)
    assert turned[8] > 0  # dragged to the right, the face turns to the right: the camera goes to the left
    downs = [["pointerdown", 1, 40, 50], ["pointerdown", 2, 60, 50]]
    nearer = browser.js(touch, [*downs, ["pointermove", 2, 80, 50], ["pointerup", 1, 0, 0], ["pointerup", 2, 0, 0]])
    assert nearer[14] == pytest.approx(turned[14] / 2, abs=0.1)


def test_the_mesh_is_drawn_over_the_head(browser: Browser, page: tuple[Path, Any]) -> None:
    path, _ = page
    load(browser, path)
    without = picture(browser)
    browser.click("#mesh")
    lines = (picture(browser) - without).abs().amax(0) > 0.05
    assert 0.02 < lines.float().mean() < 0.6
    assert not bool(lines[:20].any())  # none above the head
    browser.click("#mesh")
    assert torch.equal(picture(browser), without)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_is_whole_readable_and_asks_for_nothing(
    browser: Browser, page: tuple[Path, Any], width: int, dark: bool
) -> None:
    path, _ = page
    load(browser, path, width=width, dark=dark, canvas=None)
    browser.js("document.querySelector('details').open = true")
    assert browser.js("return document.documentElement.scrollWidth") <= width
    assert browser.faint_texts() == []
    unnamed = "return Array.from(document.querySelectorAll('button, input, select')).filter((e) => "
    assert browser.js(unnamed + "!(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length") == 0
    assert [url for url in browser.requests() if not url.startswith(("file:", "data:", "blob:"))] == []
    assert browser.texts("h1") == [" ".join(HOSTILE.split())] or browser.texts("h1") == [HOSTILE]
    assert [error for error in browser.errors() if "GL Driver Message" not in error] == []


def test_sound_is_the_clock(browser: Browser, tmp_path: Path, tiny_head: HeadModel) -> None:
    from selenium.webdriver.common.by import By

    sound = tmp_path / "talk.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        tone = np.sin(np.arange(8000 * 6) * 0.3) * 8000
        file.writeframes(tone.astype("<i2").tobytes())
    path = write_web(
        opened(rigged(tiny_head)), tmp_path / "page.html", motion=any_film(tiny_head), fps=1.0, sound=sound
    )
    load(browser, path, canvas=64)
    wait(lambda: browser.js("return document.getElementById('sound').readyState") == 4)
    browser.driver.find_element(By.ID, "play").click()
    heard = "return document.getElementById('sound').currentTime"
    wait(lambda: browser.js(heard) > 1.0)
    browser.driver.find_element(By.ID, "play").click()
    time.sleep(0.3)
    at = float(browser.js(heard))
    assert browser.js(heard) == at
    assert float(browser.texts("#where")[0].split()[0]) == pytest.approx(at, abs=0.3)
    set_value(browser, "#frame", 4)
    assert browser.js(heard) == pytest.approx(4.0)
