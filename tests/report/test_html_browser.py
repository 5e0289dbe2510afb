"""The report as a reader meets it: in a real Chromium, on a desk and on a phone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, chromium, needs_browser
from made_up import HOSTILE, sweep, three_by_three_by_two

from headstudio.report.html import write_report

pytestmark = [pytest.mark.slow, needs_browser]

WIDTHS = (1280, 400)
KINDS = {
    "finished": lambda number: "finished",
    "mixed": lambda number: ("finished", "finished", "failed", "running", "queued", "stopped")[number % 6],
    "none finished": lambda number: ("failed", "queued")[number % 2],
}
VISIBLE = "Array.from(document.querySelectorAll('#table tbody tr')).filter((r) => !r.hidden)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of each kind of sweep."""
    folder = tmp_path_factory.mktemp("sweeps")
    written = {}
    for name, state in KINDS.items():
        sweep(folder / name, three_by_three_by_two(), state=state)
        written[name] = write_report(folder / name)
    sweep(folder / "hostile", [{"prompt": HOSTILE, "seed": "0"}, {"prompt": "a bald man", "seed": "0"}])
    (folder / "hostile" / "run-001" / "turntable.mp4").unlink()
    sweep(folder / "one", [{"prompt": "a bald man"}])
    more_seeds = [{**given, "seed": f"{seed}"} for given in three_by_three_by_two()[::2] for seed in range(4)]
    sweep(folder / "seeds", more_seeds)
    return written | {name: write_report(folder / name) for name in ("hostile", "one", "seeds")}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", [*KINDS, "hostile", "one", "seeds"])
def test_a_page_is_whole_readable_and_asks_for_nothing(
    browser: Browser, pages: dict[str, Path], kind: str, width: int
) -> None:
    browser.open(pages[kind], width)
    browser.js("for (const d of document.querySelectorAll('details')) d.open = true")
    for place in range(0, browser.js("return document.documentElement.scrollHeight"), 700):
        browser.js("window.scrollTo({top: arguments[0], behavior: 'instant'})", place)  # plots are drawn when seen
        time.sleep(0.05)
    assert browser.errors() == []
    assert browser.js("return document.documentElement.scrollWidth") <= width
    assert browser.faint_texts() == []
    small = "return Array.from(document.querySelectorAll('body *')).filter((e) => e.checkVisibility() && e.textContent"
    small += ".trim() && !e.closest('svg') && parseFloat(getComputedStyle(e).fontSize) < 11.5).map((e) => e.outerHTML)"
    assert [text[:200] for text in browser.js(small)] == []
    assert browser.js("return Array.from(document.images).filter((i) => !i.alt.trim() || !i.naturalWidth).length") == 0
    requests = browser.requests()
    assert requests
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert [url for url in requests if url.startswith("file:")] == [pages[kind].absolute().as_uri().replace("'", "%27")]
    unnamed = "return Array.from(document.querySelectorAll('button, input, select')).filter((e) => "
    unnamed += "!(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
    assert browser.js(unnamed) == 0


def test_many_seeds_of_a_setting_share_its_cell_and_leave_the_sentence_its_place(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["seeds"])
    widths = "return Array.from(document.querySelectorAll(arguments[0]), (e) => e.getBoundingClientRect().width)"
    assert min(browser.js(widths, "#heads tbody th")) >= 120
    heads = browser.js(widths, "#heads .head")
    assert min(heads) >= 80
    assert max(heads) - min(heads) < 1  # those of a last line that is not full, too
    beyond = "return Array.from(document.querySelectorAll('#heads .cell')).filter((c) => c.scrollWidth > c.clientWidth)"
    assert browser.js(f"{beyond}.length") == 0


def test_a_hostile_sentence_does_nothing_and_is_read_as_it_is(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["hostile"])
    time.sleep(0.5)
    assert browser.js("return window.hacked") is None
    assert HOSTILE in browser.js("return document.getElementById('table').textContent")
    assert "<b>bold</b>" in browser.js("return document.querySelector('#curve .legend').textContent")
    assert browser.js("return document.querySelector('#curve .legend [style*=bold]')") is None
    assert "no film" in browser.texts(".stage.missing")[0]


def test_any_column_sorts_by_number_and_back(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["mixed"])
    heads = browser.texts("#table thead th")
    for name in ("CLIP score", "Time, s", "Gaussians"):
        column = heads.index(name) + 1
        cells = f"#table tbody tr td:nth-child({column})"
        for order in ("descending", "ascending"):
            browser.click(f"#table thead th:nth-child({column}) button")
            assert browser.js(f"return document.querySelector('#table th:nth-child({column})').ariaSort") == order
            values = browser.js(f"return Array.from(document.querySelectorAll('{cells}'), (c) => c.dataset.value)")
            numbers = [float(value) for value in values if value is not None]
            assert len(numbers) == 6
            assert numbers == sorted(numbers, reverse=order == "descending")
            assert values[6:] == [None] * 12  # what has no value stands last, either way
    assert browser.js("return document.querySelectorAll('#table [aria-sort]:not([aria-sort=none])').length") == 1
    browser.click(f"#table thead th:nth-child({heads.index('reg') + 1}) button")
    regs = browser.texts(f"#table tbody tr td:nth-child({heads.index('reg') + 1})")
    assert regs == sorted(regs)


def test_words_and_states_filter(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["mixed"])
    assert browser.js(f"return {VISIBLE}.length") == 18
    write = "const f = document.getElementById('filter'); f.value = arguments[0]; f.dispatchEvent(new Event('input'))"
    browser.js(write, "reg=strict JOKER")
    assert browser.js(f"return {VISIBLE}.map((r) => r.cells[0].textContent)") == ["10", "11"]
    assert browser.texts("#shown") == ["2 of 18 runs"]
    browser.js(write, "")
    browser.click(".chip[data-state=finished]")
    assert browser.js(f"return {VISIBLE}.map((r) => r.dataset.state).includes('finished')") is False
    assert browser.js(f"return {VISIBLE}.length") == 12
    browser.click(".chip[data-state=finished]")
    assert browser.js(f"return {VISIBLE}.length") == 18


def test_one_slider_turns_every_head(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["finished"])
    places = (
        "return Array.from(document.querySelectorAll('.stage:not([hidden]) img'), (i) => getComputedStyle(i).transform)"
    )
    before = browser.js(places)
    assert len(before) == 18
    set_to = "const f = document.getElementById('frame'); f.value = arguments[0]; f.dispatchEvent(new Event('input'))"
    browser.js(set_to, 9)
    after = browser.js(places)
    assert all(now != then for now, then in zip(after, before, strict=True))
    width, height = browser.js(
        "const b = document.querySelector('.stage').getBoundingClientRect(); return [b.width, b.height]"
    )
    shifts = _shifts(after)
    assert shifts[0] == pytest.approx([-3 * (width - 2), -1 * (height - 2)], abs=3)  # the tenth of rows of six
    assert np.ptp(shifts, axis=0).max() < 0.2  # widths of equal columns are rounded to 1/64 pixel
    assert browser.texts("#where") == ["135°"]
    browser.click("[data-show=animation]")
    assert np.ptp(_shifts(browser.js(places)), axis=0).max() < 0.2
    assert browser.js("return document.querySelectorAll('.stage:not([hidden])[data-film=animation]').length") == 18
    assert browser.texts("#where")[0].endswith(" s")
    browser.click("#play")
    time.sleep(1)
    browser.click("#play")
    moved = browser.js("return document.getElementById('frame').value")
    assert moved != "9"
    assert (
        browser.js("return new Set(Array.from(document.querySelectorAll('.stage'), (s) => s.dataset.frame)).size") == 1
    )


def _shifts(transforms: list[str]) -> list[list[float]]:
    """Pixels across and down of CSS's matrix(1, 0, 0, 1, x, y)."""
    return [[float(part) for part in at.removeprefix("matrix(").rstrip(")").split(",")][4:] for at in transforms]


def test_dragging_and_keys_turn_the_heads(browser: Browser, pages: dict[str, Path]) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By

    browser.open(pages["finished"])
    stage = browser.driver.find_element(By.CSS_SELECTOR, ".stage")
    ActionChains(browser.driver).scroll_to_element(stage).click_and_hold(stage).move_by_offset(
        50, 0
    ).release().perform()
    assert int(browser.js("return document.getElementById('frame').value")) > 0
    slider = browser.driver.find_element(By.ID, "frame")
    browser.js("arguments[0].focus()", slider)
    slider.send_keys(Keys.HOME)
    assert browser.texts("#where") == ["0°"]
    slider.send_keys(Keys.ARROW_RIGHT)
    assert browser.texts("#where") == ["15°"]


def test_metrics_are_chosen_and_plots_drawn(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["finished"])
    shown = "return document.querySelectorAll('.panel[data-metric=color_bleeding]:not([hidden]) svg').length"
    assert browser.js(shown) == 0
    browser.click(".chip[data-metric=color_bleeding]")
    browser.js("document.querySelector('.panel[data-metric=color_bleeding]').scrollIntoView()")
    time.sleep(0.5)
    assert browser.js(shown) > 0
    browser.click(".chip[data-metric=color_bleeding]")
    assert browser.js(shown) == 0
    names = browser.texts("#quantity option")
    assert names == ["guidance", "gaussians"]
    legend = "return Array.from(document.querySelectorAll('#curve .legendtext'), (t) => t.textContent)"
    assert browser.js(legend) == ["reg=none", "reg=strict", "reg=scaled"]  # one for each setting, not for each run
    browser.js("const b = document.getElementById('by'); b.value = 1; b.dispatchEvent(new Event('input'))")
    assert len(browser.js(legend)) == 3
    assert browser.errors() == []


def test_calm_readers_get_no_fast_film(browser: Browser, pages: dict[str, Path]) -> None:
    browser.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    )
    browser.open(pages["finished"])
    browser.click("#play")
    time.sleep(1.1)
    browser.click("#play")
    assert int(browser.js("return document.getElementById('frame').value")) <= 3
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_link_opens_the_run(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["finished"])
    browser.click("#table a[href='#run-4']")
    time.sleep(0.2)
    assert browser.js("return document.getElementById('run-4').open") is True
