"""Tabs of Chromium that keep what went wrong in them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from playwright.async_api import async_playwright, expect

from tests.patience import patient
from tests.servers import find_chromium

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from playwright.async_api import Browser, ConsoleMessage, Error, Page

WIDE = 1100
NARROW = 400
ARGUMENTS = (
    "--no-sandbox",  # root has none, and containers often run tests as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_FAINT = """() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const part = (x) => x / 255 <= 0.03928 ? x / 3294.6 : ((x / 255 + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    const under = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = numbers(getComputedStyle(at).backgroundColor);
            if (colour.length === 3) return colour;
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.querySelectorAll("body *")) {
        const isText = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!isText || !element.getClientRects().length) continue;
        const one = light(numbers(getComputedStyle(element).color));
        const other = light(under(element));
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) faint.push(`${element.textContent.trim()}: ${ratio.toFixed(2)}`);
    }
    return faint;
}"""


_SMALL = """() => [...document.querySelectorAll("button, input, summary, nav a, [tabindex]")]
    .filter((it) => it.getClientRects().length)
    .map((it) => [it.textContent.trim() || it.id || it.name, it.getBoundingClientRect()])
    .filter(([, box]) => box.width < 24 || box.height < 24)
    .map(([name, box]) => `${name}: ${box.width.toFixed(0)} x ${box.height.toFixed(0)}`)"""


@dataclass  # no slots: playwright keeps its handlers in the instance
class Tab:
    """One page.

    Attributes:
        complaints: What its console says, breaches of the content policy among it, and
            what its scripts threw.
    """

    page: Page
    complaints: list[str] = field(default_factory=list[str])

    async def focused(self) -> str:
        """Return the id, or else the text, of what has the focus."""
        found: str = await self.page.evaluate(
            "document.activeElement.id || document.activeElement.textContent.trim()"
        )
        return found

    async def overflow(self) -> int:
        """Return how many pixels the page is wider than the window."""
        found: int = await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return found

    async def faint(self) -> list[str]:
        """Return the texts whose contrast is below 4.5 : 1.

        Source: WCAG 2.2, 1.4.3.
        """
        found: list[str] = await self.page.evaluate(_FAINT)
        return found

    async def small(self) -> list[str]:
        """Return what is to be pressed and less than 24 pixels wide or high.

        Source: WCAG 2.2, 2.5.8.
        """
        found: list[str] = await self.page.evaluate(_SMALL)
        return found

    def _on_console(self, message: ConsoleMessage) -> None:
        self.complaints.append(f"{self.page.url}: {message.type}: {message.text}")

    def _on_error(self, error: Error) -> None:
        self.complaints.append(f"{self.page.url}: {error}")

    def listen(self) -> None:
        """Start to keep what goes wrong."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._on_error)


@contextlib.asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """Run the Chromium of this machine.

    Raises:
        NoBrowser: There is none; the text says how to get it.
    """
    path = find_chromium()
    expect.set_options(timeout=patient(5_000))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def tab(
    browser: Browser,
    site: str,
    *,
    width: int = WIDE,
    scheme: Literal["light", "dark"] = "light",
    has_scripts: bool = True,
) -> AsyncGenerator[Tab]:
    """Open a tab that no other shares anything with; `goto` takes paths of `site`."""
    context = await browser.new_context(
        base_url=site,
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        java_script_enabled=has_scripts,
    )
    try:
        context.set_default_timeout(patient(30_000))
        opened = Tab(await context.new_page())
        opened.listen()
        yield opened
    finally:
        await context.close()
