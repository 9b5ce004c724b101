"""The page at `/`: nothing from outside, a policy that admits only itself, and use in a browser."""

import base64
import hashlib
import re
import shutil
import subprocess

import pytest
from litestar.testing import TestClient

from api.app import create_app


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
    labelled = re.findall(r"<label>[^<]+<(?:select|input)", body)
    controls = re.findall(r"<(?:select|input)\b[^>]*>", body)
    named = [control for control in controls if "aria-label" in control]
    assert len(labelled) + len(named) == len(controls)
    assert '<html lang="en">' in body
    assert 'name="viewport"' in body


@pytest.mark.slow
def test_a_question_in_a_browser(service, limits, live_server, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("absent: chromium; install it to run the page's test in a browser")
    with live_server(service, limits) as live:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 f"--user-data-dir={tmp_path}", "--virtual-time-budget=8000"]  # fmt: skip
        done = subprocess.run(
            [chromium, *flags, "--dump-dom", f"{live.url}/?q=who+discovered+penicillin"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-500:]
    dom = done.stdout
    assert '<span class="cited">Penicillin was discovered by Alexander Fleming in 1928.' in dom
    assert 'aria-label="Evidence 1">[1]</button>' in dom
    assert 'data-hit="penicillin"' in dom
    assert "in all" in dom
