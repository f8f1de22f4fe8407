"""Headless Chromium under selenium. Needs Debian's packages chromium and chromium-driver."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

HOW_TO_INSTALL = "needs headless Chromium: apt-get install chromium chromium-driver"

Scheme = Literal["light", "dark"]
DESKTOP, PHONE = (1440, 900), (390, 844)


def is_available() -> bool:
    """True when browser and driver are on the path."""
    return shutil.which("chromium") is not None and shutil.which("chromedriver") is not None


@contextmanager
def chromium() -> Iterator[Chrome]:
    """A browser that logs what its console says."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(20)
        yield driver
    finally:
        driver.quit()


def show_as(driver: Chrome, size: tuple[int, int], scheme: Scheme) -> None:
    """Give the page this size and colour scheme."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def complaints(driver: Chrome) -> list[str]:
    """Warnings and errors of the console since the last call: a refused resource or script is one."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]  # type: ignore[no-untyped-call]
