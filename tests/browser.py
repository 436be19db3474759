"""Pages as a browser shows them. Run by itself, it says whether there is one for the tests."""

import contextlib
import pathlib
import shutil
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZES = {"phone": (390, 844), "laptop": (1366, 768)}


def find():
    """The browser's path, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def shown(path, width, height):
    """A file as a page of a window of this size, without JavaScript, and the URLs it asked for."""
    from playwright.sync_api import sync_playwright

    assert find(), f"no browser; there is none of {', '.join(NAMES)}"
    asked = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find())
        context = browser.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=False
        )
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(pathlib.Path(path).as_uri())
        yield page, asked
        browser.close()


if __name__ == "__main__" and find() is None:
    sys.exit(
        f"the tests look at pages in a browser, and there is none of {', '.join(NAMES)}; "
        "install one, on Debian: apt-get update && apt-get install chromium"
    )
