"""The page in a real browser, as a person uses it; skipped where Chromium is not installed."""

import csv
from pathlib import Path

import pytest

from blemish.images import labels

from .browsing import reads, until

pytestmark = pytest.mark.browser


def said(reviewed):
    rows, _ = labels.read(reviewed / "labels.csv")
    return [(row.path, row.label) for row in rows]


def first(tab):
    return tab.locator("#card-0 bdi").inner_text()


@pytest.fixture
def short_pages(monkeypatch):
    monkeypatch.setattr("blemish.review.routes.PAGE", 4)


def test_the_next_cards_come_before_the_end_is_seen(short_pages, tab):
    until(tab, "document.querySelectorAll('.card').length === 10")
    assert tab.locator(".more").count() == 0
    tab.select_option("[name=order]", "rising")
    until(tab, "document.querySelector('.card').id === 'card-9' && document.querySelectorAll('.card').length === 10")


def test_a_review_from_the_first_view_to_the_lists(tab, reviewed, tmp_path):
    assert "token" not in tab.url
    assert tab.locator(".card").count() == 10
    shown = "[...document.querySelectorAll('#card-0 img:not(.outline)')]"
    until(tab, f"{shown}.every(i => i.complete && i.naturalWidth > 0)")
    name = first(tab)

    tab.locator("#slider").focus()  # slide to the right end: nothing is flagged; one step back: the first is
    tab.keyboard.press("End")
    assert tab.locator("#flagged-count").inner_text().startswith("0 of 10")
    assert tab.locator(".card.flagged").count() == 0
    tab.keyboard.press("ArrowLeft")
    assert tab.locator("#flagged-count").inner_text().startswith("1 of 10")
    assert tab.locator(".card.flagged").count() == 1
    reads(tab, "With your labels 1 flagged, 9 not.")

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
    reads(tab, "With your labels 2 flagged, 8 not.")  # one below the threshold, and labelled bad
    assert tab.locator("#card-5 .say .bad").get_attribute("aria-pressed") == "true"
    tab.locator("#undo").click()
    reads(tab, "1 good, 1 bad")
    assert said(reviewed)[0] == (name, "bad")

    tab.reload()
    reads(tab, "1 good, 1 bad")
    assert tab.locator("#card-0 .say .bad").get_attribute("aria-pressed") == "true"
    until(tab, "document.getElementById('flagged-count').textContent.startsWith('1 of 10')")

    with tab.expect_download() as download:
        tab.locator("a[href='/export/rejected.csv']").click()
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
    reads(tab, "1 good")  # the other tab is sent what was decided before
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
    tab.locator("h1", has_text="run-2").wait_for()  # it loads anew
    reads(tab, "1 bad")  # it came along
    until(tab, "document.getElementById('flagged-count').textContent !== ''")
    assert str(reviewed) in tab.locator("#refit .notice").inner_text()

    in_view = "(box => box.height > 0 && box.top >= 0 && box.bottom <= innerHeight)(trouble.getBoundingClientRect())"
    in_view = f"(trouble => trouble.textContent.includes('Reload') && {in_view})(document.getElementById('trouble'))"
    other.set_viewport_size({"width": 380, "height": 500})
    other.locator("#card-7 .say .good").click()  # far below the head of the page
    until(other, in_view)
    other.locator("#card-7 .picture").click()
    until(other, in_view)
    other.reload()
    reads(other, "0 good, 1 bad")
    other.locator("#card-1 .say .good").click()
    reads(other, "1 good, 1 bad")
    assert len(said(reviewed.with_name("run-2"))) == 2
    assert len(said(reviewed)) == 1
