"""Clicks and keys faster than the answers: none is lost, and the page counts them all."""

import pytest

from blemish.images import labels

from .browsing import reads, until

pytestmark = pytest.mark.browser


def labelled(reviewed):
    rows, _ = labels.read(reviewed / "labels.csv")
    return [row.label for row in rows]


def slowly(tab, address, *slow, milliseconds=700):
    """Let the answers to requests of these numbers, from 0, or all of them, come late."""
    seen = []

    def answer(route):
        number = len(seen)
        seen.append(route)
        found = route.fetch()
        if not slow or number in slow:
            tab.wait_for_timeout(milliseconds)
        route.fulfill(response=found)

    tab.route(address, answer)


def test_the_count_is_that_of_the_last_click_when_an_earlier_answer_is_late(tab, reviewed):
    slowly(tab, "**/label", 1)
    for row, word in enumerate(("bad", "good", "skipped")):
        tab.locator(f"#card-{row} .say .{word}").click()
    reads(tab, "3 of 10 reviewed: 1 good, 1 bad, 1 skipped")
    tab.wait_for_timeout(1000)  # the late answer must not count less again
    reads(tab, "3 of 10 reviewed: 1 good, 1 bad, 1 skipped")
    assert labelled(reviewed) == ["bad", "good", "skipped"]


def test_the_last_click_on_a_card_is_its_label(tab, reviewed):
    tab.route(
        "**/label", lambda route: (tab.wait_for_timeout(700 * ("bad" in route.request.post_data)), route.continue_())
    )
    tab.locator("#card-0 .say .bad").click()
    tab.locator("#card-0 .say .good").click()
    until(tab, "document.querySelector('#card-0 .say .good').getAttribute('aria-pressed') === 'true'")
    tab.wait_for_timeout(1000)
    assert labelled(reviewed) == ["bad", "good"]


def test_keys_in_the_enlarged_view_are_kept_while_images_still_load(tab, reviewed):
    tab.locator("#card-0 .picture").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#zoom[open] #stage")
    slowly(tab, "**/zoom/*")
    for key in "rara":
        tab.keyboard.press(key)
        tab.wait_for_timeout(150)
    reads(tab, "4 of 10 reviewed: 2 good, 2 bad")
    assert labelled(reviewed) == ["bad", "good", "bad", "good"]
    tab.wait_for_selector("#stage[data-row='4']")  # and the view shows the image the next key speaks of


def test_each_click_on_undo_takes_one_label_back(tab, reviewed):
    for row in range(3):
        tab.locator(f"#card-{row} .say .bad").click()
    reads(tab, "3 bad")
    slowly(tab, "**/undo")
    for _ in range(3):
        tab.locator("#undo").click()
    reads(tab, "0 bad")


def test_a_press_counts_though_the_card_is_drawn_anew_before_the_release(tab, reviewed):
    slowly(tab, "**/label")
    box = tab.locator("#card-2 .say .good").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.evaluate("window.old = document.getElementById('card-2')")
    tab.evaluate("document.querySelector('#card-2 .say .bad').click()")
    tab.mouse.down()
    until(tab, "document.getElementById('card-2') !== window.old")
    tab.mouse.up()
    reads(tab, "1 good, 0 bad")


def test_a_click_before_the_page_is_ready_waits_for_it(tab):
    tab.route("**/static/review.js", lambda route: (tab.wait_for_timeout(1000), route.continue_()))
    tab.reload(wait_until="commit")
    tab.locator("#card-1 .say .good").click()
    reads(tab, "1 good")


def test_a_tab_with_a_label_on_its_way_is_not_closed_unasked(tab):
    asked = []
    tab.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    slowly(tab, "**/label")
    tab.locator("#card-0 .say .bad").click()
    tab.locator("#card-1 .say .bad").click()
    tab.close(run_before_unload=True)
    until(tab, "true")
    reads(tab, "2 bad")
    assert asked == ["beforeunload"]
