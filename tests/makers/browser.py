"""The page of `messctl serve` in a real headless Chromium, and the pictures of it in docs/.

    python tests/makers/browser.py            # takes the pictures, into a folder that it names
    python tests/makers/browser.py --write    # writes them into docs/

Chromium is the system's, such as Debian's package `chromium`.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live_making import puzzle
from serving import Serving

DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",  # as root, without a display
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ALL_FOUR = """
sla: {alpha: 0.75}
defaults: {n_ctx: 0, max_tokens: 64, temperature: 0}
models:
- {name: pico-34k, path: "box:pico-34k.gguf"}
- {name: nano-109k, path: "box:nano-109k.gguf"}
- {name: micro-400k, path: "box:micro-400k.gguf"}
- {name: mini-1m, path: "box:mini-1m.gguf"}
"""
REQUESTS = 250
"""How many requests the pictures show."""
PICTURES = {
    "serve-desktop.png": (1280, 1180, "light"),
    "serve-dark.png": (1280, 1180, "dark"),
    "serve-phone.png": (390, 844, "light"),
}
"""By name: the width and the height of the window, in pixels, and the colours."""


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser. Without one, a test is skipped; in CI it fails."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _absent("playwright is not installed")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        _absent("no Chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


def _absent(what: str) -> None:
    if "CI" in os.environ:
        raise AssertionError(what)
    pytest.skip(what)


@contextmanager
def opened(browser: Any, url: str, width: int = 1280, height: int = 900, colours: str = "light") -> Iterator[Any]:
    """Open the page in a window of its own, and see that it complains of nothing and asks nobody else."""
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=colours, locale="en-GB")
    page = context.new_page()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda sent: None if sent.url.startswith(f"{url}/") else complaints.append(sent.url))
    page.complaints = complaints
    page.goto(f"{url}/")
    try:
        yield page
        assert not complaints, complaints
    finally:
        context.close()


def live(page: Any) -> None:
    """Wait until the page follows the server."""
    page.wait_for_selector('#connection[data-state="live"]')


def part(page: Any, name: str) -> Any:
    """Return the part of the page with a name."""
    return page.locator(f'[data-is="{name}"]')


def puzzles(serving: Serving, count: int, seed: int = 5) -> None:
    """Let the models in the box solve puzzles, and judge most of their answers by the solutions."""
    rng = random.Random(seed)
    for _ in range(count):
        prompt, solution = puzzle(rng)
        status, _, answer = serving.chat(prompt)
        assert status == 200, answer
        if rng.random() < 0.9:
            good = answer["choices"][0]["message"]["content"].strip() == solution
            assert serving.ask("/v1/feedback", {"id": answer["id"], "value": good})[0] == 200


def take_pictures(browser: Any, serving: Serving, folder: Path) -> None:
    """Take all pictures of a server, as a reader sees the page first."""
    for name, (width, height, colours) in PICTURES.items():
        with opened(browser, serving.url, width, height, colours) as page:
            live(page)
            page.wait_for_selector(".plot path.attained")
            page.screenshot(path=folder / name)


def main() -> None:
    """Take the pictures."""
    folder = Path(tempfile.mkdtemp())
    with Serving(folder, ALL_FOUR, "--show-prompts") as serving, chromium() as browser:
        puzzles(serving, REQUESTS)
        take_pictures(browser, serving, folder)
    for name in PICTURES:
        if "--write" in sys.argv[1:]:
            shutil.copy(folder / name, DOCS / name)
        print((DOCS if "--write" in sys.argv[1:] else folder) / name)


if __name__ == "__main__":
    main()
