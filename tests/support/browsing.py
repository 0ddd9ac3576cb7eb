"""A headless Chromium of the system, with a page logged in to a served P8."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.serving import Served


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; its tests are skipped where there is none, and fail in CI."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing in CI")
        pytest.skip("needs chromium")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=found, args=options)
        try:
            yield browser
        finally:
            browser.close()


def link(served: Served) -> str:
    """Where a browser logs in, once."""
    return served.ask("POST", "/api/v1/links", {}).json["url"]


def ready(page: Any, view: str) -> None:
    """Wait until a view is drawn."""
    page.wait_for_selector(f'[data-view="{view}"][data-ready="yes"]', timeout=20_000)
