"""The enlarged view in a real browser: zoom, pan, boxes, types, all by keyboard, and the bar that stays in sight."""

import pytest

from blemish.images import defect_boxes, labels

from .browsing import CONTRAST, SHOTS, UNNAMED, reads, until

pytestmark = pytest.mark.browser
SCALE = "new DOMMatrix(getComputedStyle(document.querySelector('#stage .plane')).transform)"


def enlarge(tab, row=0):
    tab.locator(f"#card-{row} .picture").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_selector(f"#zoom[open] #stage[data-row='{row}']")
    until(tab, "document.getElementById('under').textContent.startsWith('Level')")


def test_the_view_fills_the_screen_zooms_and_pans_by_key_wheel_and_drag(tab):
    enlarge(tab)
    assert tab.evaluate("document.getElementById('zoom').getBoundingClientRect().width") == 1280
    assert tab.evaluate("document.activeElement.id") == "stage"
    tab.wait_for_selector("#stage-beside:not([hidden]) img")
    fitted = tab.evaluate(f"{SCALE}.a")
    for _ in range(6):
        tab.keyboard.press("+")
    assert tab.evaluate(f"{SCALE}.a") == pytest.approx(fitted * 1.25**6, rel=0.01)
    left = tab.evaluate(f"{SCALE}.e")
    tab.keyboard.press("ArrowRight")  # zoomed in: the view moves, the image stays the same
    assert tab.evaluate(f"{SCALE}.e") == pytest.approx(left - 80, abs=1)
    assert tab.locator("#stage").get_attribute("data-row") == "0"
    both = "[...document.querySelectorAll('.plane')].map(each => each.style.transform)"
    assert len(set(tab.evaluate(both))) == 1  # the nearest image moves along

    box = tab.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    before = tab.evaluate(f"{SCALE}.f")
    tab.mouse.move(x, y)
    assert "(pointer)" in tab.locator("#under").inner_text()
    tab.mouse.down()
    tab.mouse.move(x, y + 40, steps=4)
    tab.mouse.up()
    assert tab.evaluate(f"{SCALE}.f") == pytest.approx(before + 40, abs=1)
    before = tab.evaluate(f"{SCALE}.a")
    tab.mouse.wheel(0, -200)
    until(tab, f"{SCALE}.a > {before} * 1.3")
    tab.keyboard.press("0")
    assert tab.evaluate(f"{SCALE}.a") == pytest.approx(fitted, rel=0.01)
    tab.keyboard.press("z")
    assert tab.evaluate(f"{SCALE}.a") == pytest.approx(max(1, fitted), rel=0.01)
    tab.keyboard.press("0")
    tab.keyboard.press("ArrowRight")  # fitted: the next image
    tab.wait_for_selector("#stage[data-row='1']")


def test_two_fingers_zoom(tab):
    enlarge(tab)
    tab.wait_for_selector("#stage-beside:not([hidden]) img")  # which takes half of the width
    before = tab.evaluate(f"{SCALE}.a")
    tab.evaluate("""() => { const stage = document.getElementById('stage'), box = stage.getBoundingClientRect();
      stage.setPointerCapture = () => {};
      const send = (type, id, x) => stage.dispatchEvent(new PointerEvent(type, { pointerId: id, pointerType: 'touch',
        clientX: box.left + x, clientY: box.top + 100, bubbles: true, cancelable: true }));
      send('pointerdown', 1, 100); send('pointerdown', 2, 150); send('pointermove', 2, 200);
      send('pointerup', 1, 100); send('pointerup', 2, 200); }""")
    assert tab.evaluate(f"{SCALE}.a") == pytest.approx(2 * before, rel=0.02)


def test_outlines_and_the_heatmap_are_chosen_and_stay_chosen(tab):
    enlarge(tab)
    assert tab.locator("#stage .edge").is_visible()
    assert tab.evaluate("getComputedStyle(document.querySelector('#stage .heat')).opacity") == "0"
    tab.keyboard.press("j")
    tab.wait_for_selector("#stage.outlined[data-row='1']")
    tab.wait_for_timeout(200)  # HTMX settles
    assert "outlined" in tab.locator("#stage").get_attribute("class")
    tab.keyboard.press("o")
    tab.keyboard.press("h")
    tab.keyboard.press("k")
    tab.wait_for_selector("#stage[data-row='0']")
    until(tab, "getComputedStyle(document.querySelector('#stage .heat')).opacity === '0.8'")
    assert not tab.locator("#stage .edge").is_visible()


def test_boxes_are_drawn_with_the_mouse_and_with_keys(tab, reviewed):
    enlarge(tab)
    tab.wait_for_selector("#stage-beside:not([hidden]) img")
    tab.keyboard.press("d")
    until(tab, "document.getElementById('draw').getAttribute('aria-pressed') === 'true'")
    plane = tab.evaluate(f"(() => {{ const m = {SCALE}; return [m.a, m.e, m.f]; }})()")
    stage = tab.locator("#stage").bounding_box()
    corner = [
        (stage["x"] + plane[1] + plane[0] * x, stage["y"] + plane[2] + plane[0] * y) for x, y in ((10, 12), (30, 25))
    ]
    tab.mouse.move(*corner[0])
    tab.mouse.down()
    tab.mouse.move(*corner[1], steps=5)
    tab.mouse.up()
    until(tab, "document.querySelectorAll('#boxes li').length === 1")
    rows, _ = defect_boxes.read(reviewed / "boxes.csv")
    assert rows[0].corners == pytest.approx((10, 12, 20, 13), abs=1.5)
    until(tab, "document.querySelectorAll('#drawn .box').length === 1")
    tab.locator("#stage").focus()
    tab.keyboard.press("b")
    until(tab, "document.querySelectorAll('#drawn .box').length > 1")


def test_a_defect_is_painted_with_the_mouse_and_with_keys(tab, reviewed):
    enlarge(tab)
    tab.keyboard.press("p")
    until(tab, "document.getElementById('brush').getAttribute('aria-pressed') === 'true'")
    stage = tab.locator("#stage").bounding_box()
    x, y = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
    tab.mouse.move(x - 40, y)
    tab.mouse.down()
    tab.mouse.move(x + 40, y, steps=5)
    until(tab, "document.querySelectorAll('#drawn .stroke').length === 1")
    tab.mouse.up()
    until(tab, "document.querySelectorAll('#drawn path.painted.box').length === 1")
    reads(tab, "1 bad")  # who paints a defect says that there is one
    [stroke] = defect_boxes.read(reviewed / "boxes.csv")[0]
    assert stroke.width > 2 * stroke.height
    assert stroke.pixels().any()
    tab.locator("#stage").focus()
    for key in ("[", "[", "[", "[", "+", "+", "+", "+", "+", "+", "ArrowDown", "ArrowDown", "ArrowDown", " "):
        tab.keyboard.press(key)
    until(tab, "document.querySelectorAll('#boxes li').length === 2")
    dab = defect_boxes.read(reviewed / "boxes.csv")[0][-1]
    assert dab.y > stroke.y
    assert dab.height < stroke.width
    tab.locator("#stage").focus()
    tab.keyboard.press("m")
    until(tab, "document.querySelector('#boxes ol').textContent.split('painted').length >= 2")
    tab.locator("#boxes li button").first.click()
    tab.keyboard.press("j")
    tab.wait_for_selector("#stage.drawing[data-row='1']")  # the brush stays in the hand
    until(tab, "document.querySelectorAll('#boxes li').length === 0")


def test_a_defect_type_gets_a_key_and_a_comment_is_kept(tab, reviewed):
    tab.locator("#who").fill("Zoë")
    tab.locator("#who").press("Enter")
    enlarge(tab)
    tab.keyboard.press("t")
    tab.keyboard.type("scratch")
    tab.keyboard.press("Enter")
    reads(tab, "1 bad")
    until(tab, "document.querySelector('#status [data-type]')?.dataset.type === 'scratch'")
    tab.locator("#stage").focus()
    tab.keyboard.press("c")
    tab.keyboard.type("near the rim")
    tab.keyboard.press("Enter")
    tab.locator("#stage").focus()
    tab.keyboard.press("j")
    tab.wait_for_selector("#stage[data-row='1']")
    tab.keyboard.press("1")
    reads(tab, "2 bad")
    found = {row.path: row for row in labels.read(reviewed / "labels.csv")[0]}
    assert [row.type for row in found.values()] == ["scratch", "scratch"]
    first = next(iter(found.values()))
    assert (first.comment, first.who) == ("near the rim", "Zoë")


def test_several_cards_are_selected_and_labelled_with_one_key(tab, reviewed):
    tab.locator("#card-1 .picture").focus()
    tab.keyboard.press("x")
    tab.locator("#card-3 .picture").click(modifiers=["Shift"])
    assert tab.locator("#selected-count").inner_text() == "3 selected"
    assert not tab.evaluate("document.getElementById('zoom').open")
    tab.keyboard.press("r")
    reads(tab, "3 bad")
    assert tab.locator("#selection").is_hidden()
    assert len(labels.read(reviewed / "labels.csv")[0]) == 3
    tab.keyboard.press("u")
    reads(tab, "0 bad")


@pytest.mark.parametrize("width", [1280, 380])
def test_the_bar_stays_in_sight_and_what_is_selected_is_not_below_it(tab, width):
    tab.set_viewport_size({"width": width, "height": 700})
    tab.evaluate("scrollTo(0, document.body.scrollHeight)")
    top = "document.querySelector('.bar').getBoundingClientRect().top"
    until(tab, f"scrollY > 200 && {top} === 0")
    for name in ("status", "undo", "threshold", "slider", "flagged-count"):
        assert tab.evaluate(f"document.getElementById('{name}').getBoundingClientRect().bottom > 0")
    tab.locator("#card-9 .picture").focus()
    for _ in range(7):
        tab.keyboard.press("k")
        picture = "document.querySelector('.card.current').getBoundingClientRect().top"
        assert tab.evaluate(f"{picture} >= document.querySelector('.bar').getBoundingClientRect().bottom - 1")


def test_the_list_is_found_through_while_typing(tab):
    name = tab.locator("#card-4 bdi").inner_text()
    tab.locator("#card-0 .picture").focus()
    tab.keyboard.press("/")
    tab.keyboard.type(name)
    until(tab, "document.querySelectorAll('.card').length === 1")


@pytest.mark.parametrize("width", [1400, 380])
def test_the_enlarged_view_has_contrast_and_names_and_fits(tab, width):
    tab.set_viewport_size({"width": width, "height": 844})
    enlarge(tab)
    tab.keyboard.press("b")
    until(tab, "document.querySelectorAll('#boxes li').length > 0")
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        assert tab.evaluate(CONTRAST) == []
        assert tab.evaluate("document.getElementById('zoom').scrollWidth") <= width
        if SHOTS:
            tab.screenshot(path=f"{SHOTS}/viewer-{width}-{scheme}.png")
    assert tab.evaluate(UNNAMED) == []
