"""A headless Chromium, and pages in it that are watched."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    """Chromium, where it and Playwright are at hand."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on the path")
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # tests may run as root
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser):
    """Makes pages; afterwards there must be no complaint, no failed request and none to anywhere else.

    The first argument of what is yielded is a tuple of the beginnings of the addresses that a page may ask for.
    """
    faults, contexts = [], []

    def make_page(allowed: tuple[str, ...], scheme: str, width: int, height: int, **options):
        viewport = {"width": width, "height": height}
        contexts.append(browser.new_context(color_scheme=scheme, viewport=viewport, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: faults.append(message.text) if message.type != "info" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on("request", lambda request: None if request.url.startswith(allowed) else faults.append(request.url))
        page.on("response", lambda answer: faults.append(answer.url) if answer.status >= 400 else None)
        return page

    yield make_page
    for context in contexts:
        context.close()
    assert faults == []
