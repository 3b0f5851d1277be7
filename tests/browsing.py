"""A real browser for tests: Debian's chromium and chromium-driver, by selenium; what needs it skips and says so where they are missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LIGHT, DARK, PHONE = "light", "dark", "phone"
_SIZES = {LIGHT: (1280, 900), DARK: (1280, 900), PHONE: (390, 844)}


def start_browser(profile: Path) -> Any:
    """A driver of a headless Chromium that keeps to itself; skips where there is none."""
    pytest.importorskip("selenium")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    program, driver = next(filter(None, found), None), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage",
                 f"--user-data-dir={profile}"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


class Browser:
    """A page in a browser, of one of three looks."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def look(self, look: str) -> None:
        """A desk by day, a desk by night, or a phone."""
        width, height = _SIZES[look]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": look == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        theme = {"name": "prefers-color-scheme", "value": DARK if look == DARK else LIGHT}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})

    def open(self, url: str, look: str = LIGHT) -> None:
        """Open a page, with whatever was said before forgotten."""
        self.look(look)
        self.driver.get_log("browser")
        self.driver.get(url)

    def js(self, code: str, *arguments: Any) -> Any:
        """What a JavaScript expression gives."""
        return self.driver.execute_script(f"return {code}", *arguments)

    def all(self, selector: str) -> list[Any]:
        """The elements that a CSS selector finds."""
        from selenium.webdriver.common.by import By

        found: list[Any] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def one(self, selector: str) -> Any:
        """The one element that a CSS selector finds."""
        (element,) = self.all(selector)
        return element

    def texts(self, selector: str) -> list[str]:
        """The text of each element, also of those that are out of sight."""
        found: list[str] = self.js(
            "[...document.querySelectorAll(arguments[0])].map(e => e.textContent.trim())", selector
        )
        return found

    def click(self, selector: str) -> None:
        """Click what a person can see."""
        element = self.one(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def choose(self, selector: str, text: str) -> None:
        """Choose from a list by what it shows."""
        from selenium.webdriver.support.select import Select

        Select(self.one(selector)).select_by_visible_text(text)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds; a minute at most."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 60, poll_frequency=0.1).until(lambda _: condition())

    def complaints(self) -> list[str]:
        """What the browser's console says: errors, and what the policy forbade."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def faults(self) -> list[str]:
        """What axe-core finds to be serious or critical, a line each."""
        self.driver.execute_script(axe())
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1]; axe.run({resultTypes: ['violations']}).then(r => done(r.violations))"
        )
        return [
            f"{fault['id']}: {fault['help']} ({fault['nodes'][0]['target']} and {len(fault['nodes']) - 1} more)"
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]

    def cut_off(self) -> int:
        """Pixels by which the page is wider than the window."""
        wider: int = self.js("document.documentElement.scrollWidth - window.innerWidth")
        return wider


def axe() -> str:
    """The text of axe-core: the file that FEWSHOT_AXE names, or that of the package axe-core-python."""
    named = os.environ.get("FEWSHOT_AXE")
    if named is None:
        found = importlib.util.find_spec("axe_core_python")
        if found is None or found.origin is None:
            pytest.skip("needs axe-core: pip install axe-core-python, or FEWSHOT_AXE=axe.min.js")
        named = str(Path(found.origin).with_name("axe.min.js"))
    return Path(named).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests; each opens its own page."""
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
