"""The status page in real headless Chromium: live, in both colour schemes, on a desk and on a phone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from qkt import BybitClient, BybitLinearBroker, BybitSpotBroker, EventBus, LimitOrder, Side, TimeInForce
from qkt.monitoring import StatusHistory, StatusServer, serve_status
from qkt.venue import SimulatedBybit
from tests.support.browser import DESKTOP, HOW_TO_INSTALL, PHONE, Scheme, chromium, complaints, is_available, show_as

pytestmark = [
    pytest.mark.verify,
    pytest.mark.skipif(not is_available(), reason=HOW_TO_INSTALL),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as driver:
        yield driver


class Stage:
    """A bot with orders on the simulated venue, and its status page."""

    def __init__(self, venue: SimulatedBybit) -> None:
        self.venue = venue
        self.client = BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url)
        self.client.connect()
        bus = EventBus()
        history = StatusHistory([bus])
        self.spot = BybitSpotBroker(self.client, bus, poll_interval_ms=2_000)
        self.linear = BybitLinearBroker(self.client, bus, poll_interval_ms=2_000)
        self.server: StatusServer = serve_status(
            [self.spot, self.linear], 0, age_bound_ms=6_000, label="grid-bot", history=history
        )

    def submit(self, client_order_id: str, price: str = "59000") -> None:
        """A limit buy of 0.01 BTC."""
        self.spot.submit(
            LimitOrder(
                symbol="BYBIT_SPOT:BTCUSDT",
                side=Side.BUY,
                quantity=Decimal("0.01"),
                limit_price=Decimal(price),
                time_in_force=TimeInForce.GTC,
                client_order_id=client_order_id,
            )
        )

    def close(self) -> None:
        self.server.close()
        self.spot.close()
        self.linear.close()
        self.client.close()


@pytest.fixture
def stage(bybit_venue: SimulatedBybit) -> Iterator[Stage]:
    built = Stage(bybit_venue)
    yield built
    built.close()


def see(browser: Chrome, css: str, text: str, timeout_s: float = 20) -> None:
    """Wait until an element's text holds ``text``."""
    script = "const e = document.querySelector(arguments[0]); return e ? e.textContent : ''"
    WebDriverWait(browser, timeout_s, poll_frequency=0.05).until(
        lambda driver: text in driver.execute_script(script, css), message=f"{css} never showed {text!r}"
    )


def open_page(browser: Chrome, stage: Stage) -> None:
    complaints(browser)  # what earlier pages said
    browser.get(stage.server.url)
    see(browser, "#link", "live")


def test_the_page_opens_without_a_complaint_and_hides_the_token(browser: Chrome, stage: Stage) -> None:
    open_page(browser, stage)

    assert browser.current_url == stage.server.address
    assert stage.server.token.reveal() not in browser.page_source
    assert browser.title == "✓ qkt: known"
    assert complaints(browser) == []


def test_orders_and_fills_appear_without_a_reload(browser: Chrome, stage: Stage) -> None:
    open_page(browser, stage)
    stage.submit("grid-1")
    see(browser, "#orders", "grid-1")
    stage.venue.fill("grid-1", "0.004")

    see(browser, "#orders", "0.004 / 0.01")
    see(browser, "#timeline .latest", "buy 0.004 BTCUSDT @ 59000")
    assert browser.find_elements(By.CSS_SELECTOR, "svg.timeline.wide .mark.buy")
    assert complaints(browser) == []


def test_an_order_links_to_its_explanation_and_focus_survives_updates(browser: Chrome, stage: Stage) -> None:
    stage.submit("grid-1")
    open_page(browser, stage)
    see(browser, "#orders", "new")
    browser.execute_script("document.querySelector('#orders a').focus()")
    stage.venue.fill("grid-1", "0.004")
    see(browser, "#orders", "0.004 / 0.01")

    assert browser.execute_script("return document.activeElement.textContent") == "grid-1"
    browser.switch_to.active_element.click()
    see(browser, "h1", "Order grid-1")
    see(browser, "table", "ACKNOWLEDGED → NEW")
    assert complaints(browser) == []


def test_the_sentence_says_what_is_not_known_and_recovers(browser: Chrome, stage: Stage) -> None:
    open_page(browser, stage)
    fault = stage.venue.faults.add("http_status", path="/v5/account/wallet-balance", status=503)
    see(browser, "h1", "balances were last read", timeout_s=30)
    assert browser.title == "? qkt: NOT ALL KNOWN"
    assert browser.find_elements(By.CSS_SELECTOR, "#ages .beyond")

    fault.remove()
    see(browser, "h1", "Everything known", timeout_s=30)


def test_a_page_whose_server_is_gone_says_so(browser: Chrome, stage: Stage) -> None:
    open_page(browser, stage)
    stage.server.close()

    see(browser, "#link", "No answer from qkt")
    assert browser.title == "✗ qkt: no answer"


CONTRAST = """
const luminance = (rgb) => {
  const [r, g, b] = rgb.match(/[0-9.]+/g).slice(0, 3).map((v) => {
    const s = v / 255;
    return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const background = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/, 0\\)$|transparent/.test(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
const poor = [];
for (const node of document.querySelectorAll("body *")) {
  if (![...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim()) || !node.getClientRects().length) continue;
  if (node instanceof SVGElement || node.classList.contains("hidden")) continue;
  const [a, b] = [getComputedStyle(node).color, background(node)].map(luminance);
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.push(node.textContent.slice(0, 30) + " " + ratio.toFixed(2));
}
return poor;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_text_is_readable_and_nothing_overflows(
    browser: Chrome, stage: Stage, size: tuple[int, int], scheme: Scheme, tmp_path: Path
) -> None:
    stage.submit("a-client-order-id-of-36-characters--")
    stage.submit("grid-2")
    stage.venue.faults.add("request_lost", path="/v5/order/create", count=1)
    open_page(browser, stage)
    show_as(browser, size, scheme)
    see(browser, "#orders", "grid-2")

    assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
    assert browser.execute_script(CONTRAST) == []
    picture = Path(os.environ.get("QKT_SCREENSHOTS", tmp_path)) / f"status-{size[0]}-{scheme}.png"
    assert browser.save_screenshot(str(picture))


def test_the_page_has_landmarks_headings_and_a_language(browser: Chrome, stage: Stage) -> None:
    open_page(browser, stage)

    assert browser.execute_script("return document.documentElement.lang") == "en"
    assert len(browser.find_elements(By.TAG_NAME, "main")) == 1
    assert len(browser.find_elements(By.TAG_NAME, "h1")) == 1
    assert browser.find_element(By.ID, "announce").get_attribute("role") == "status"
    pictures = browser.find_elements(By.CSS_SELECTOR, "svg:not([aria-hidden])")
    assert all(picture.get_attribute("aria-label") for picture in pictures)


def test_without_scripts_the_page_reloads_itself(browser: Chrome, stage: Stage) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(stage.server.url)
        assert browser.find_element(By.TAG_NAME, "h1").text.startswith("Everything known")
        stage.submit("grid-9")
        WebDriverWait(browser, 15).until(lambda driver: "grid-9" in driver.page_source)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
