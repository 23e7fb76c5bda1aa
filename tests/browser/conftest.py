"""Fixtures: Chromium, driven by Selenium, and the Flask sample served beside the local cloud."""

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.integration.dev.commands import FREE_PORTS, Command, running

SAMPLE = Path(__file__).parents[2] / "samples" / "flask"
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
SCREENSHOTS = Path(__file__).parent / "screenshots"

PATIENCE = 30.0
"""Seconds after which a test that waits for something has failed."""


class Browser:
    """A page in Chromium."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is live."""
        self.driver.get(url)
        self.wait(lambda: self.driver.find_element(By.ID, "live").text == "live", "the page to be live")

    @property
    def text(self) -> str:
        """The text of the page, as it is seen."""
        return self.script("return document.body.innerText").replace("\n", " ")

    def script(self, code: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return its result."""
        return self.driver.execute_script(code, *arguments)

    def find(self, css: str) -> list[WebElement]:
        """Return the elements that a selector finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def texts(self, css: str) -> list[str]:
        """Return the texts of the elements that a selector finds."""
        return self.script(
            "return [...document.querySelectorAll(arguments[0])].map(each => each.innerText.trim())", css
        )

    def attributes(self, css: str, name: str) -> list[str]:
        """Return an attribute of the elements that a selector finds."""
        return self.script(
            "return [...document.querySelectorAll(arguments[0])].map(each => each.getAttribute(arguments[1]))",
            css,
            name,
        )

    def click(self, text: str, within: str = "body") -> None:
        """Click the button or link with a text."""
        css = f"{within} button, {within} a, {within} summary"

        self.press(css, lambda element: element.text.strip() == text)

    def press(self, css: str, wanted: Callable[[WebElement], bool] = lambda _: True) -> None:
        """Click the first element that a selector finds and that is wanted."""

        def pressed() -> bool:
            found = [each for each in self.find(css) if wanted(each)]
            for each in found[:1]:
                each.click()
            return bool(found)

        self.wait(pressed, f"something to click among {css}")

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + PATIENCE

        def holds() -> object:
            try:
                return condition()
            except StaleElementReferenceException:  # the page has changed meanwhile
                return False

        while not holds():
            assert time.monotonic() < deadline, f"timed out waiting for {what}\n{self.text}"
            time.sleep(0.05)

    def wait_for_text(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.wait(lambda: text in self.text, repr(text))

    def mark(self) -> None:
        """Remember this document, so that :meth:`is_the_same` tells whether it was loaded again."""
        self.script("window.marked = true")

    def is_the_same(self) -> bool:
        """Return whether the document has not been loaded again since :meth:`mark`."""
        return bool(self.script("return window.marked === true"))

    def look(self, width: int, *, dark: bool = False, height: int = 900) -> None:
        """Change the width of the window, and between light and dark."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def screenshot(self, name: str, width: int, *, dark: bool) -> None:
        """Keep a picture of the whole page."""
        self.look(width, dark=dark)
        height = self.script("return document.documentElement.scrollHeight")
        self.look(width, dark=dark, height=min(max(height, 800), 4000))
        SCREENSHOTS.mkdir(exist_ok=True)
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
        SCREENSHOTS.joinpath(f"{name}-{width}-{'dark' if dark else 'light'}.png").write_bytes(base64.b64decode(shot))

    def barriers(self) -> list[str]:
        """Return what axe-core finds on the page that keeps people out."""
        # By the protocol that debuggers use: the page's own policy lets no script in.
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
        answer = self.driver.execute_cdp_cmd(
            "Runtime.evaluate",
            {
                "expression": "axe.run(document).then(found => JSON.stringify(found.violations.map("
                "each => each.id + ': ' + each.help + ' ' + each.nodes.map(node => node.html).slice(0, 3))))",
                "awaitPromise": True,
                "returnByValue": True,
            },
        )
        return json.loads(answer["result"]["value"])

    def complaints(self) -> list[str]:
        """Return what Chromium has logged since the last time: errors of scripts, refusals by the page's policy."""
        return [entry["message"] for entry in self.driver.get_log("browser") if "favicon" not in entry["message"]]


@pytest.fixture(scope="session")
def driver() -> Iterator[webdriver.Chrome]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    assert chromium, "Chromium is not installed: apt install chromium"
    assert chromedriver, "Chromium's driver is not installed: apt install chromium-driver"
    assert AXE.exists(), "axe-core is not installed: npm install in tests/browser"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver: webdriver.Chrome) -> Iterator[Browser]:
    browser = Browser(driver)
    browser.look(1280)
    browser.complaints()
    yield browser
    complaints = browser.complaints()
    browser.driver.get("about:blank")
    assert not complaints


class Dev:
    """The Flask sample, served by ``gae-deferred dev``.

    Attributes:
        app, console: their URLs, without a slash at the end.
    """

    def __init__(self, command: Command) -> None:
        self.console = command.wait_for(r"Console +(http://\S+)/")[1]
        self.app = command.wait_for(r"App +(http://\S+)")[1]
        self.tasks = command.wait_for(r"Cloud Tasks +(\S+)")[1]
        self.datastore = command.wait_for(r"Datastore +(\S+)")[1]


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    app = tmp_path / "app"
    shutil.copytree(SAMPLE, app, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    (app / "mail.py").write_text(FUNCTIONS)
    (app / "with_mail.py").write_text(MAIL)
    arguments = (
        "dev",
        "with_mail:app",
        "--app-dir",
        str(app),
        "--port",
        "0",
        "--ephemeral",
        "--queue",
        "mail",
        *FREE_PORTS,
    )
    with running(*arguments, cwd=tmp_path) as command:
        yield Dev(command)


MAIL = """
import mail
from main import app
from gae_deferred import deferred


@app.get("/mail/give_up")
def give_up():
    deferred.defer(mail.give_up, "ada", _queue="mail")
    return "deferred"
"""
"""The app, with an address that defers a call that fails for good."""

FUNCTIONS = """
from gae_deferred import deferred


def give_up(name):
    raise deferred.PermanentTaskFailure(f"550 no such user {name}")
"""
