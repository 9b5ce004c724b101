"""The page at `/`: nothing from outside, a policy that admits only itself, and use in a browser."""

import base64
import hashlib
import re
from urllib.parse import urlencode

import pytest
from browser import ENTER, TAB, Browser
from by_heart import ByHeart
from litestar.testing import TestClient

from api.app import create_app
from api.limits import Limits

SENTENCE = "Penicillin was discovered by Alexander Fleming in 1928."


@pytest.fixture
def page(service, limits):
    with TestClient(create_app(service, limits)) as client:
        yield client.get("/")


def test_the_page_needs_nothing_from_outside(page):
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page.text)
    assert not re.findall(r"url\(|@import|\bstyle=|\son\w+=", page.text)


def test_the_policy_admits_only_the_pages_own_script_and_style(page):
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_every_control_has_a_name(page):
    body = page.text.split("<script>")[0]
    control = r"<(?:select|input)\b[^>]*>"
    labels = re.findall(r"<label>(.*?)</label>", body, re.DOTALL)
    labelled = [label for label in labels if re.search(control, label)]
    assert all(re.sub(r"<select.*?</select>|<[^>]*>", "", one).strip() for one in labelled)
    named = [one for one in re.findall(control, body) if "aria-label" in one]
    assert len(labelled) + len(named) == len(re.findall(control, body))
    assert '<html lang="en">' in body
    assert 'name="viewport"' in body


@pytest.fixture
def live(tiny_index, with_model, live_server):
    """The real service with a model that knows its sentence by heart and drafts it."""
    service = with_model(tiny_index, ByHeart(SENTENCE))
    with live_server(service, Limits()) as live:
        yield live


@pytest.fixture
def browser(tmp_path):
    browser = Browser(tmp_path / "profile")
    yield browser
    browser.close()


def shown(browser, live, **more):
    """Ask by a link; wait for the answer and its terms."""
    asked = urlencode({"index": "tiny", "q": "Who discovered penicillin?"} | more)
    browser.open(f"{live.url}/?{asked}")
    browser.wait("document.querySelector('.bars i')")


@pytest.mark.slow
def test_a_question_in_a_browser(browser, live):
    shown(browser, live, compress="0.5")
    assert browser.text("#answer").startswith(SENTENCE)
    assert "in all" in browser.text("#facts")
    assert "penicillin" in browser.text(".terms").lower()
    widths = browser.run(
        "return [...document.querySelectorAll('.bars i')].map((bar) => bar.offsetWidth)"
    )
    assert max(widths) > 0
    # The evidence that a citation points at lights up when it is clicked.
    assert browser.run("return document.querySelectorAll('mark.on').length") == 0
    browser.click("#answer .cite")
    assert "Alexander Fleming" in browser.text("mark.on")
    assert browser.run("return document.querySelector('.cite').ariaPressed") == "true"
    # Compression's words: some kept, some not, in the order of the text.
    browser.wait("document.querySelector('.heat')")
    assert browser.run("return document.querySelectorAll('.heat .kept').length") > 0
    assert browser.run("return document.querySelectorAll('.heat .dropped').length") > 0
    heat = browser.run("return document.querySelector('.heat').textContent")
    assert heat == browser.run("return document.querySelector('.hit .text').textContent")
    # Every token of the answer, coloured by where it came from.
    assert browser.run("return document.querySelector('#written').textContent").strip() == SENTENCE
    assert browser.run("return document.querySelectorAll('#written .own').length") > 0
    assert browser.run("return performance.getEntriesByType('resource').every("
                       "(one) => one.name.startsWith(location.origin))")  # fmt: skip


@pytest.mark.slow
def test_the_page_by_keyboard_alone(browser, live):
    browser.open(f"{live.url}/")
    browser.wait("document.querySelector('#index').value === 'tiny'")
    browser.type("Who discovered penicillin?" + ENTER)
    browser.wait("document.querySelector('#answer .cite')")
    for _ in range(30):
        browser.type(TAB)
        if browser.run("return document.activeElement.className") == "cite":
            break
    outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    browser.type(ENTER)
    assert "Alexander Fleming" in browser.text("mark.on")
    browser.run("document.activeElement.blur()")
    browser.type("/")
    assert browser.run("return document.activeElement.id") == "query"


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(tmp_path, live, width):
    browser = Browser(tmp_path / "profile", width=width)
    try:
        shown(browser, live, compress="0.5")
        browser.run("document.querySelector('details').open = true")
        sizes = browser.run(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert sizes[0] <= sizes[1]
    finally:
        browser.close()


@pytest.mark.slow
def test_both_themes_can_be_read(browser, live):
    """Body text and quiet text stand out from what is behind them (WCAG AA: 4.5)."""
    for theme in ("light", "dark"):
        browser.prefer(theme)
        shown(browser, live)
        for selector in ("#answer", "#facts dt", ".chips span", "#answer .cite", "#go"):
            assert browser.run(CONTRAST % selector) >= 4.5, (theme, selector)
    browser.prefer("light")
    shown(browser, live, theme="dark")
    assert browser.run("return document.documentElement.dataset.theme") == "dark"


@pytest.mark.slow
def test_a_failure_is_told_on_the_page(browser, live):
    browser.open(f"{live.url}/?index=tiny&q=x")
    browser.wait("document.querySelector('#answer').textContent.includes('No evidence')")


CONTRAST = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
const light = (colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = [];
const one = document.querySelector("%s");
for (let at = one; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
const pair = [light(behind), light([...behind, getComputedStyle(one).color])].sort();
return (pair[1] + 0.05) / (pair[0] + 0.05);
"""
