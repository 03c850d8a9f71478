"""A real browser for the pages; without one, the tests that need it say so and are skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Browser:
    """Opens pages from disk, and notes what a page must not do.

    Attributes
    ----------
    errors : list of str
        Errors and warnings on the console.
    requests : list of str
        Addresses asked for, beside those of the pages opened.
    """

    def __init__(self, chromium: Any) -> None:
        self.chromium = chromium
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.contexts: list[Any] = []

    def open(self, path: Path, width: int = 1280, dark: bool = False) -> Any:
        """Open a page and return it (`playwright.sync_api.Page`)."""
        context = self.chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.contexts.append(context)
        page = context.new_page()
        address = path.resolve().as_uri()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._request(request.url, address))
        page.goto(address)
        return page

    def close(self) -> None:
        """Close the pages; fail on errors, and on requests that left a page."""
        for context in self.contexts:
            context.close()
        assert self.errors == []
        assert self.requests == []

    def _console(self, line: Any) -> None:
        if line.type in ("error", "warning"):
            self.errors.append(line.text)

    def _request(self, url: str, address: str) -> None:
        if url.partition("#")[0] != address and not url.startswith("data:"):
            self.requests.append(url)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with playwright.sync_playwright() as engines:
        browser = engines.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    """Yield a browser; fail afterwards on errors, and on requests that left a page."""
    browser = Browser(chromium)
    yield browser
    browser.close()
