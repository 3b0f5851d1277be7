"""The app in a real browser, as a person uses it: gather, mend, name, look; three looks, axe-core, hostile names."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot.app.naming import example
from tests.app.conftest import TOKEN
from tests.browsing import DARK, LIGHT, PHONE, Browser

pytestmark = pytest.mark.browser


def enter(browser: Browser, port: int, look: str = LIGHT) -> None:
    """Open the page as somebody new."""
    browser.driver.delete_all_cookies() if browser.driver.current_url.startswith("http") else None
    browser.open(f"http://127.0.0.1:{port}/?token={TOKEN}", look)
    ready(browser)
    browser.driver.execute_script("document.getElementById('clear').click()")
    ready(browser)


def ready(browser: Browser) -> None:
    """Wait until nothing goes on."""
    browser.until(
        lambda: browser.js("document.getElementById('classifier').options.length > 0 && !document.body.ariaBusy")
    )


def test_from_pictures_to_answers(browser: Browser, app_port: tuple[int, Path], tmp_path: Path) -> None:
    classes, queries = example(tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    enter(browser, app_port[0])
    assert browser.driver.current_url.endswith("/")  # the token is not left in the address
    for place, (name, paths) in enumerate(classes.items()):
        browser.one("#class-name").send_keys(name)
        browser.click("#add-class button")
        browser.until(lambda place=place: len(browser.all(".class")) == place + 1)
        ready(browser)
        browser.all(".class input[type=file]")[-1].send_keys("\n".join(map(str, paths)))
        browser.until(lambda place=place: len(browser.all(f".class:nth-child({place + 1}) .tile")) == 2)
        ready(browser)
    browser.one("#add-queries").send_keys("\n".join(map(str, [*queries, broken])))
    browser.until(lambda: len(browser.all("#queries .tile")) == len(queries) + 1)
    ready(browser)
    assert "broken.png cannot be read (not a picture in a known format)" in browser.one("#error-text").text
    # locked at once, and until the answers are there
    locked = browser.js(
        "(() => { document.getElementById('name').click(); return [...document.querySelectorAll('fieldset button, fieldset input')]"
        ".every(e => e.matches(':disabled')); })()"
    )
    assert locked
    browser.until(lambda: browser.all(".answer"))
    ready(browser)
    assert browser.one("#name").is_enabled()
    cards = browser.all(".answer")
    assert len(cards) == len(queries) + 1 and "no answer" in cards[-1].text and "broken.png" in cards[-1].text
    right = sum(
        path.name.rpartition("-")[0] in card.text.split("nearest")[0]
        for path, card in zip(queries, cards, strict=False)
    )
    assert right >= 9 and all(len(card.find_elements("css selector", ".near img")) == 3 for card in cards[:-1])
    assert "query/broken.png cannot be read" in browser.one("#warnings").text
    assert browser.js("[...document.querySelectorAll('.answer img')].every(i => !i.complete || i.naturalWidth > 0)")


def test_classes_are_mended(browser: Browser, app_port: tuple[int, Path]) -> None:
    enter(browser, app_port[0])
    browser.click("#example")
    browser.until(lambda: len(browser.all(".class")) == 5)
    ready(browser)
    names = browser.texts(".class h3")
    browser.click(".class:nth-child(1) [aria-label^=Rename]")
    field = browser.one(".class:nth-child(1) form input")
    field.clear()
    field.send_keys("mine\n")
    browser.until(lambda: browser.texts(".class h3") == ["mine", *names[1:]])
    ready(browser)
    browser.click("#queries .tile:nth-child(1)")
    browser.choose("#target", "mine")
    browser.click("#move")
    browser.until(lambda: len(browser.all(".class:nth-child(1) .tile")) == 3)
    ready(browser)
    assert not browser.one("#chosen").is_displayed() and len(browser.all("#queries .tile")) == 9
    browser.click("#name")
    browser.until(lambda: browser.all(".answer"))
    ready(browser)
    assert not browser.one("#stale").is_displayed()
    browser.click(".class:nth-child(2) [aria-label^='Remove class']")
    browser.until(lambda: len(browser.all(".class")) == 4)
    assert browser.one("#stale").is_displayed()
    ready(browser)
    browser.one("#class-name").send_keys("a/b\n")
    browser.until(lambda: "cannot be the name of a class" in browser.one("#error-text").text)
    assert [c for c in browser.complaints() if "400" not in c] == []


@pytest.mark.parametrize("look", [LIGHT, DARK, PHONE])
def test_everybody_can_use_it(browser: Browser, app_port: tuple[int, Path], look: str) -> None:
    enter(browser, app_port[0], look)
    assert browser.faults() == []
    browser.click("#example")
    browser.until(lambda: len(browser.all(".class")) == 5)
    ready(browser)
    browser.click("#queries .tile:nth-child(1)")
    browser.click("#name")
    browser.until(lambda: browser.all(".answer"))
    ready(browser)
    assert browser.faults() == [] and browser.cut_off() <= 0
    # a confidence is whole: as wide as its text, inside its card, inside the window
    whole = browser.js(
        "[...document.querySelectorAll('.answer')].every(card => { const c = card.querySelector('.confidence'), "
        "r = c.getBoundingClientRect(), o = card.getBoundingClientRect(); return /^\\d+\\.\\d %$/.test(c.textContent) && "
        "c.scrollWidth <= c.clientWidth && r.right <= o.right && o.right <= window.innerWidth && r.bottom <= o.bottom; })"
    )
    assert whole


def test_hostile_names_stay_text(browser: Browser, app_port: tuple[int, Path], tmp_path: Path) -> None:
    evil = "<img src=x onerror=window.pwned=1>"
    (picture,) = example(tmp_path, classes=1, shots=1, queries=0)[0].popitem()[1][:1]
    hostile = picture.rename(picture.with_name(f"{evil}.png"))
    enter(browser, app_port[0])
    browser.one("#class-name").send_keys(evil)
    browser.click("#add-class button")
    browser.until(lambda: browser.texts(".class h3") == [evil])
    ready(browser)
    browser.one(".class input[type=file]").send_keys(str(hostile))
    browser.until(lambda: browser.texts(".class .tile span") == [hostile.name])
    assert browser.js("window.pwned") is None
    assert not browser.js("[...document.images].some(i => i.getAttribute('src') === 'x')")
