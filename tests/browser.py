"""Pages as a browser shows them. Run by itself, it installs a browser where there is none."""

import contextlib
import functools
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from playwright.sync_api import Error, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZES = {"phone": (390, 844), "laptop": (1366, 768)}
HOW_TO = "apt-get install chromium, or python -m playwright install --with-deps chromium"

_DEBIAN = "apt-get update -q && apt-get install -y -q --no-install-recommends chromium"


@functools.cache
def find():
    """The path of the system's browser, or else of playwright's own; None where neither starts."""
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        for path in filter(None, [*map(shutil.which, NAMES), own]):
            with contextlib.suppress(Error):
                playwright.chromium.launch(executable_path=path).close()
                return path
    return None


def install():
    """Debian's package where this user may install it, else playwright's own browser."""
    if shutil.which("apt-get"):
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
        _try([*sudo, *environment, "sh", "-c", _DEBIAN])
        if find():
            return
    _try([sys.executable, "-m", "playwright", "install", "chromium"])


def _try(command):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, timeout=900)
    find.cache_clear()


@contextlib.contextmanager
def shown(path, width, height):
    """A file as a page of a window of this size, without JavaScript, and the URLs it asked for."""
    executable = find()
    if executable is None:
        pytest.skip(f"no browser: {HOW_TO}")
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        context = browser.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=False
        )
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(pathlib.Path(path).as_uri())
        yield page, asked
        browser.close()


if __name__ == "__main__" and find() is None:
    install()
    if find() is None:
        print(f"no browser could be installed; tests that look at pages are left out: {HOW_TO}")
