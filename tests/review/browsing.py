"""What tests in a real browser share: how to wait, and what to ask of a page that a person has to read."""

import os
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
SLOW = 60_000  # milliseconds: the machine may be busy
SHOTS = os.environ.get("BLEMISH_SHOTS")  # a folder to leave screenshots in, to be looked at


def until(tab, condition):
    """Wait until a condition in JavaScript holds; the page's policy forbids Playwright's own way, which is eval."""
    for _ in range(SLOW // 100):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(100)
    pytest.fail(f"not reached: {condition}; the page reads {tab.locator('#status').inner_text()}")


def reads(tab, text):
    until(tab, f"document.getElementById('status').textContent.includes('{text}')")


UNNAMED = """() => [...document.querySelectorAll('button, input, select, a')].filter(e => !(
    e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label') ||
    e.querySelector('img[alt]:not([alt=""])'))).map(e => e.outerHTML.slice(0, 80))"""

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

# Where the focus is, and whether one sees it: a ring of 2 pixels or more, in a colour that stands out 3 to 1.
FOCUS = """() => { const e = document.activeElement, style = getComputedStyle(e);
  return [e.id || e.className || e.tagName, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
          style.outlineColor, e.getBoundingClientRect().top + scrollY]; }"""
