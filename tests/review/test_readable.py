"""Page, zoom view, notices and report can be read in both schemes, and are reached by keyboard alone."""

import re

import pytest

from .browsing import CONTRAST, FOCUS, SHOTS, UNNAMED, reads, until

pytestmark = pytest.mark.browser


def schemes(tab):
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        yield scheme


def ratio(one, other):
    """The contrast of two colours as browsers and style sheets write them."""

    def light(text):
        digits = re.fullmatch(r"#(\w\w)(\w\w)(\w\w)", text.strip())
        parts = [int(each, 16) for each in digits.groups()] if digits else map(int, re.findall(r"\d+", text)[:3])
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in (part / 255 for part in parts)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_has_the_contrast_of_wcag_aa_on_the_page_and_its_notices(tab, reviewed):
    with (reviewed / "labels.csv").open("a") as file:
        file.write("time,path,sha256,label\n2026-01-01T00:00:00,part-0")  # cut short: a notice
    tab.reload()
    tab.locator("#card-0 .say .bad").click()
    tab.locator("#card-1 .say .good").click()
    tab.locator("#card-2 .say .skipped").click()
    reads(tab, "1 skipped")
    tab.locator(".help summary").click()
    tab.evaluate("(() => { const e = document.getElementById('trouble'); e.hidden = false; e.textContent = 'Oh'; })()")
    assert tab.locator(".notice:visible").count() == 2
    for _ in schemes(tab):
        assert tab.evaluate(CONTRAST) == []
        names = ("--page", "--card", "--bar", "--accent")
        page, card, bar, accent = (
            tab.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('{name}')") for name in names
        )
        for drawn in (bar, accent):  # of the histogram, the slider, the ring of the focus
            assert min(ratio(drawn, page), ratio(drawn, card)) >= 3
    assert tab.evaluate(UNNAMED) == []


def test_text_has_the_contrast_of_wcag_aa_in_the_zoom_view(tab, reviewed):
    image = reviewed.parent / "images" / tab.locator("#card-0 bdi").inner_text()
    image.write_bytes(image.read_bytes() + b" ")  # changed: a notice
    tab.locator("#card-0 .picture").click()
    tab.wait_for_selector("#zoom[open] .reason")
    assert tab.locator("#zoom .notice:visible").count() == 1
    for _ in schemes(tab):
        assert tab.evaluate(CONTRAST) == []
    assert tab.evaluate(UNNAMED) == []


def test_text_has_the_contrast_of_wcag_aa_while_the_page_learns_and_after(tab):
    tab.locator("#card-0 .say .bad").click()
    reads(tab, "1 bad")
    tab.locator("#refit-start").click()
    tab.locator("#refit-progress").wait_for()
    for _ in schemes(tab):
        assert tab.evaluate(CONTRAST) == []
    tab.locator("#refit-cancel").focus()
    tab.wait_for_timeout(1300)  # it was drawn anew meanwhile
    assert tab.evaluate("document.activeElement.id") == "refit-cancel"
    tab.keyboard.press("Enter")
    tab.locator("#refit [role=alert]").wait_for()
    for _ in schemes(tab):
        assert tab.evaluate(CONTRAST) == []


@pytest.mark.parametrize("width", [1400, 380])
def test_the_report_can_be_read(browser, run, width):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto((run / "report.html").as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    for scheme in schemes(tab):
        assert tab.evaluate(CONTRAST) == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        if SHOTS:
            tab.screenshot(path=f"{SHOTS}/report-{width}-{scheme}.png", full_page=True)
    assert tab.evaluate(UNNAMED) == []
    assert "e-0" not in tab.locator("body").inner_text()  # no level reads 1.6e-08
    tab.close()


def test_each_control_is_reached_by_tab_from_top_to_bottom_and_shows_it(tab):
    for scheme in schemes(tab):
        page = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        tab.reload()  # the way starts at the top
        tab.locator("body").press("Tab")
        reached = []
        for _ in range(60):
            reached.append(tab.evaluate(FOCUS))
            tab.keyboard.press("Tab")
        names = [name for name, *_ in reached]
        for name in (
            "slider",
            "threshold",
            "layer",
            "undo",
            "refit-start",
            "SUMMARY",
            "picture",
            "good",
            "bad",
            "skipped",
        ):
            assert name in names, (scheme, name, names)
        assert [
            name
            for name, seen, colour, _ in reached
            if name not in ("BODY", "layer-heat") and (not seen or ratio(colour, page) < 3)
        ] == []
        assert names.index("slider") < names.index("undo") < names.index("refit-start") < names.index("picture")


def test_the_zoom_view_keeps_the_focus_and_gives_it_back(tab):
    tab.locator("#card-2 .picture").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#zoom[open] .reason")
    for _ in range(12):
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement === document.body || !!document.activeElement.closest('#zoom')")
    tab.keyboard.press("Escape")
    until(tab, "document.activeElement.closest('.card')?.id === 'card-2'")


@pytest.mark.parametrize("width", [1400, 380])
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
