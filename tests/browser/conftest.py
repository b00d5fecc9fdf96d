"""A headless Chromium, and pages whose errors and requests are checked."""

import shutil

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    """A running Chromium. Without Chromium the test is skipped."""
    if CHROMIUM is None:
        pytest.skip("no Chromium was found on PATH")
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # tests may run as root
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser):
    """A function that opens pages: `new_page(allowed, scheme, width, height, **options)`.

    A page may request only addresses that begin with one of `allowed`. The test fails if a page requested another
    address, a request failed, or a page reported an error, a console message (other than info) or a dialog.
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
