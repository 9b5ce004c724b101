"""A real browser, driven over WebDriver: headless Chromium with a profile of its own."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB, ENTER = "\ue004", "\ue007"


def binaries() -> tuple[str, str]:
    """Chromium and its driver; skips the test where they are not installed."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("absent: chromium and chromium-driver; install them to test the page")
    return chromium, driver


class Browser:
    """One window of a given size."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        chromium, driver = binaries()
        self._process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        port = next(
            match[1]
            for line in self._process.stdout
            if (match := re.search(r"started successfully on port (\d+)", line))
        )
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
        arguments = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        options = {"goog:chromeOptions": {"binary": chromium, "args": arguments}}
        session = self._send("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self._session = f"/session/{session['sessionId']}"
        self._cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip

    def close(self) -> None:
        self._client.delete(self._session)
        self._client.close()
        self._process.terminate()
        self._process.wait(20)
        self._process.stdout.close()

    def open(self, url: str) -> None:
        self._send("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str) -> object:
        """What the script returns in the page."""
        return self._send("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def wait(self, condition: str, timeout_s: float = 60) -> None:
        """Return once the JavaScript expression holds."""
        deadline = time.monotonic() + timeout_s
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < deadline, self.run("return document.body.innerText")
            time.sleep(0.1)

    def text(self, selector: str) -> str:
        return str(self.run(f"return document.querySelector({selector!r})?.innerText"))

    def click(self, selector: str) -> None:
        found = self._send(
            "POST", f"{self._session}/element", {"using": "css selector", "value": selector}
        )
        self._send("POST", f"{self._session}/element/{found[ELEMENT]}/click", {})

    def type(self, keys: str) -> None:
        """Keys to whatever has the focus."""
        presses = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": presses}
        self._send("POST", f"{self._session}/actions", {"actions": [source]})

    def prefer(self, scheme: str) -> None:
        """Have the page see `light` or `dark` as the system's theme."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._cdp("Emulation.setEmulatedMedia", features=[feature])

    def shoot(self, file: Path) -> None:
        """The whole page as a PNG."""
        size = self.run(
            "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self._cdp("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _cdp(self, command: str, **params: object) -> dict:
        body = {"cmd": command, "params": params}
        return self._send("POST", f"{self._session}/goog/cdp/execute", body)

    def _send(self, method: str, path: str, body: dict) -> dict:
        response = self._client.request(method, path, json=body)
        value = response.json()["value"]
        assert response.status_code == 200, value
        return value
