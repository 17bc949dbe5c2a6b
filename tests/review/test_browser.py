"""The page in a real browser, as a person uses it; skipped where Chromium is not installed."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blemish import labels

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
SLOW = 60_000  # milliseconds: the machine may be busy
SHOTS = os.environ.get("BLEMISH_SHOTS")  # a folder to leave screenshots in, to be looked at


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def link(reviewed):
    """The program as a person starts it; the link it prints."""
    program = subprocess.Popen(
        [sys.executable, "-m", "blemish.cli", "review", str(reviewed)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        yield re.search(r"http\S+", program.stdout.readline())[0]
    finally:
        program.terminate()
        program.wait(30)


@pytest.fixture
def tab(browser, link):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(SLOW)
    page = context.new_page()
    trouble = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    page.goto(link)
    until(page, "document.getElementById('flagged-count').textContent !== ''")
    yield page
    assert not trouble
    context.close()


def said(reviewed):
    rows, _ = labels.read(reviewed / "labels.csv")
    return [(row.path, row.label) for row in rows]


def until(tab, condition):
    """Wait until a condition in JavaScript holds; the page's policy forbids Playwright's own way, which is eval."""
    for _ in range(SLOW // 100):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(100)
    pytest.fail(f"not reached: {condition}; the page reads {tab.locator('#status').inner_text()}")


def reads(tab, text):
    until(tab, f"document.getElementById('status').textContent.includes('{text}')")


def first(tab):
    return tab.locator("#card-0 bdi").inner_text()


def test_a_review_from_the_first_view_to_the_lists(tab, reviewed, tmp_path):
    assert "token" not in tab.url
    assert tab.locator(".card").count() == 10
    until(tab, "[...document.querySelectorAll('#card-0 img')].every(i => i.complete && i.naturalWidth > 0)")
    name = first(tab)

    tab.locator("#slider").focus()  # slide to the right end: nothing is flagged; one step back: the first is
    tab.keyboard.press("End")
    assert tab.locator("#flagged-count").inner_text().startswith("0 of 10")
    assert tab.locator(".card.flagged").count() == 0
    tab.keyboard.press("ArrowLeft")
    assert tab.locator("#flagged-count").inner_text().startswith("1 of 10")
    assert tab.locator(".card.flagged").count() == 1
    reads(tab, "1 to reject")

    tab.locator("#card-0 .picture").focus()
    tab.keyboard.press("r")
    reads(tab, "1 bad")
    tab.keyboard.press("a")  # the next one was selected
    reads(tab, "1 good, 1 bad")
    tab.keyboard.press("s")
    reads(tab, "1 skipped")
    tab.keyboard.press("u")
    reads(tab, "0 skipped")
    tab.locator("#card-5 .say .bad").click()
    reads(tab, "2 bad")
    assert tab.locator("#card-5 .say .bad").get_attribute("aria-pressed") == "true"
    tab.locator("#undo").click()
    reads(tab, "1 good, 1 bad")
    assert said(reviewed)[0] == (name, "bad")

    tab.reload()
    reads(tab, "1 good, 1 bad")
    assert tab.locator("#card-0 .say .bad").get_attribute("aria-pressed") == "true"
    until(tab, "document.getElementById('flagged-count').textContent.startsWith('1 of 10')")

    with tab.expect_download() as download:
        tab.locator("text=rejected.csv").click()
    download.value.save_as(tmp_path / "rejected.csv")
    with (tmp_path / "rejected.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["decided_by"]) for row in rows] == [(name, "review")]
    assert Path(rows[0]["path"]).is_file()


def test_keys_faster_than_the_answers_speak_of_one_image_each(tab, reviewed):
    names = [tab.locator(f"#card-{row} bdi").inner_text() for row in range(4)]
    tab.route("**/label", lambda route: (tab.wait_for_timeout(300), route.continue_()))
    tab.locator("#card-0 .picture").focus()
    for key in "rara":
        tab.keyboard.press(key)
    reads(tab, "2 good, 2 bad")
    assert said(reviewed) == list(zip(names, ["bad", "good", "bad", "good"], strict=True))


def test_two_tabs_lose_nothing(tab, reviewed):
    other = tab.context.new_page()
    other.goto(tab.url)
    tab.locator("#card-1 .say .good").click()
    reads(tab, "1 good")  # said, not only clicked: the other tab is told what was said before
    other.locator("#card-2 .say .bad").click()
    reads(other, "1 good, 1 bad")
    tab.reload()
    reads(tab, "1 good, 1 bad")
    assert len(said(reviewed)) == 2


def test_zoom_shows_why_and_the_keyboard_goes_on(tab):
    tab.locator("#card-0 .picture").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#zoom[open] .reason")
    until(tab, "[...document.querySelectorAll('#zoom img')].every(i => i.complete && i.naturalWidth > 0)")
    tab.keyboard.press("r")
    reads(tab, "1 bad")
    tab.wait_for_selector("#zoom .zoomed[data-row='1']")
    tab.keyboard.press("Escape")
    until(tab, "!document.getElementById('zoom').open")
    until(tab, "document.activeElement.closest('.card')?.id === 'card-1'")  # the dialog tells of its end a little later
    tab.keyboard.press("h")
    assert tab.locator("#card-0 .heat").is_hidden()


def test_filters_and_proposals_change_what_is_shown(tab):
    tab.locator("#card-3 .say .bad").click()
    reads(tab, "1 bad")
    tab.select_option("select[name=show]", "bad")
    until(tab, "document.querySelectorAll('.card').length === 1")
    tab.select_option("select[name=show]", "all")
    until(tab, "document.querySelectorAll('.card').length === 10")
    tab.select_option("select[name=order]", "teach")
    until(tab, "document.querySelectorAll('.card').length === 9")


def test_the_page_learns_from_its_labels_and_an_old_tab_is_told(tab, reviewed):
    other = tab.context.new_page()
    other.goto(tab.url)
    tab.locator("#card-0 .say .bad").click()
    reads(tab, "1 bad")
    tab.locator("#refit-start").focus()
    tab.keyboard.press("Enter")
    tab.locator("#refit-progress").wait_for()
    assert tab.locator("#refit-cancel").is_visible()
    until(tab, "document.title.startsWith('run-2')")
    reads(tab, "1 bad")  # it came along
    until(tab, "document.getElementById('flagged-count').textContent !== ''")
    assert str(reviewed) in tab.locator("#refit .notice").inner_text()

    other.locator("#card-1 .say .good").click()
    until(other, "document.getElementById('trouble').textContent.includes('Reload')")
    other.reload()
    reads(other, "0 good, 1 bad")
    other.locator("#card-1 .say .good").click()
    reads(other, "1 good, 1 bad")
    assert len(said(reviewed.with_name("run-2"))) == 2
    assert len(said(reviewed)) == 1


def test_everything_is_reached_by_keyboard_and_can_be_read(tab):
    """Each control takes the focus and has a name; text has the contrast that WCAG AA asks for, light and dark."""
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert tab.evaluate(CONTRAST) == []
    assert tab.evaluate(UNNAMED) == []
    reached = set()
    tab.locator("body").press("Tab")
    for _ in range(70):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"slider", "threshold", "undo", "picture", "good", "bad", "skipped", "heat"} <= reached


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(tab, width):
    tab.set_viewport_size({"width": width, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        tab.locator("#card-0 .say .bad").click()
        if SHOTS:
            tab.wait_for_timeout(500)
            tab.screenshot(path=f"{SHOTS}/review-{width}-{scheme}.png")
    tab.locator("#card-0 .picture").click()
    tab.wait_for_selector("#zoom[open] .reason")
    assert tab.evaluate("document.getElementById('zoom').scrollWidth") <= width
    if SHOTS:
        tab.wait_for_timeout(500)
        tab.screenshot(path=f"{SHOTS}/zoom-{width}.png")


UNNAMED = """() => [...document.querySelectorAll('button, input, select, a')].filter(e => !(
    e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label'))).map(e => e.outerHTML.slice(0, 80))"""

CONTRAST = """() => {
  const rgb = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => { const [r, g, b] = c.map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest('option')) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color).slice(0, 3)), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) found.push(e.outerHTML.slice(0, 90));
  }
  return found;
}"""
