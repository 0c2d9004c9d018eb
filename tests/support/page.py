"""The gateway's page in a real browser: opens views and reads their DOM."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By

from tests.support.gateway import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

ROWS = """
const cells = (row) => Object.fromEntries([...row.children].map((cell) => [cell.className, cell.textContent]));
const rows = [...document.querySelectorAll('.canvas .row')];
return rows.map((row) => [row.dataset.device, cells(row)]);
"""


@dataclass
class Page:
    """The page of the gateway at ``url``."""

    driver: Chrome
    url: str

    def leave(self) -> None:
        """Open an empty page."""
        self.driver.get("about:blank")

    def open(self, view: str = "#/") -> None:
        """Go to a view as if from a bookmark: everything is loaded anew."""
        self.leave()
        self.driver.get(f"{self.url}/{view}")

    def go(self, view: str) -> None:
        """Go to a view as a link on the page does."""
        self.script("location.hash = arguments[0]", view)

    def script(self, code: str, *arguments: Any) -> Any:
        """What ``code`` returns, run in the page."""
        return self.driver.execute_script(code, *arguments)

    def find(self, selector: str) -> WebElement:
        """The element of a selector, once it is there and can be seen."""
        return wait_for(lambda: self._visible(selector), f"{selector} to be seen")  # type: ignore[no-any-return]

    def _visible(self, selector: str) -> WebElement | None:
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        try:
            return next((each for each in found if each.is_displayed()), None)
        except StaleElementReferenceException:
            return None

    def text(self, selector: str) -> str:
        """The text of the first element of a selector; empty if there is none."""
        return str(self.script("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def attribute(self, selector: str, name: str) -> str:
        """An attribute of the first element of a selector; empty if there is none."""
        code = "return document.querySelector(arguments[0])?.getAttribute(arguments[1]) ?? ''"
        return str(self.script(code, selector, name))

    def wait_text(self, selector: str, part: str, seconds: float = 20) -> str:
        """The text of an element, once ``part`` is in it."""
        try:
            wait_for(lambda: part in self.text(selector), f"{part!r} in {selector}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; there is {self.text(selector)!r}") from None
        return self.text(selector)

    def click(self, selector: str) -> None:
        """Click what can be seen."""
        self.find(selector).click()

    def type(self, selector: str, text: str) -> None:
        """Replace what a field holds."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def drag(self, selector: str, start: float, end: float) -> None:
        """Drag the mouse over an element, from and to a share of its width."""
        element = self.find(selector)
        self.script("arguments[0].scrollIntoView({block: 'center'})", element)
        width = element.size["width"]
        chain = ActionChains(self.driver, duration=50)
        chain.move_to_element_with_offset(element, round((start - 0.5) * width), 0).click_and_hold()
        chain.move_to_element_with_offset(element, round((end - 0.5) * width), 0).release().perform()

    def rows(self) -> dict[str, dict[str, str]]:
        """The rows in sight: by device, the text of each cell."""
        return dict(self.script(ROWS))

    def log_in(self, token: str) -> None:
        """Give a token to the form that is shown."""
        self.type("form.login input[type=password]", token)
        self.click("form.login button")

    def errors(self) -> list[str]:
        """Errors and warnings in the console since the last call, with violations of the content security policy."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [json.dumps(entry["message"]) for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]


@contextmanager
def of_admin(driver: Chrome, url: str, token: str) -> Iterator[Page]:
    """The page of an administrator who has logged in; the login ends with the block."""
    found = Page(driver, url)
    found.open("#/connect")
    found.click("#account")
    found.log_in(token)
    found.find(".register")
    yield found
    found.leave()
    driver.delete_all_cookies()


@contextmanager
def watched(page: Page) -> Iterator[Page]:
    """The same page. At the end its console holds no error, and no text of a device has become markup.

    The devices' texts contain images whose failed load would set the title to ``run``.
    """
    page.errors()
    yield page
    assert page.errors() == []
    assert page.script("return document.querySelectorAll('main img').length") == 0
    assert page.driver.title != "run"
