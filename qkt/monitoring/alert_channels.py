"""Ways to send a notice: a JSON webhook by requests, everything else by apprise.

URLs hold secrets: qkt logs none. urllib3 and apprise log paths at DEBUG; keep these two loggers above it.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from qkt.errors import InvalidRequestError
from qkt.monitoring.alert_episodes import Notice
from qkt.monitoring.extras import is_installed

_TIMEOUT_S = (2.0, 3.0)  # connect, read


class DeliveryError(Exception):
    """A notice was not taken; the text names no URL."""


class Channel(Protocol):
    """One receiver of notices."""

    @property
    def name(self) -> str:
        """Scheme and host of the receiver: what may be logged."""
        ...

    def send(self, notice: Notice) -> None:
        """Send one notice; raises DeliveryError when it was not taken."""
        ...


class WebhookChannel:
    """POSTs the notice as JSON; any 2xx answer counts as taken."""

    def __init__(self, url: str, label: str) -> None:
        self._url = url
        self._label = label
        self.name: str = _public_part(url)

    def send(self, notice: Notice) -> None:
        """POST `Notice.to_dict` with ``from``, the sender's label."""
        payload = {"from": self._label, **notice.to_dict()}
        try:
            answer = requests.post(self._url, json=payload, timeout=_TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as error:
            raise DeliveryError(type(error).__name__) from None  # its text holds the URL
        if not 200 <= answer.status_code < 300:
            raise DeliveryError(f"HTTP {answer.status_code}")


class AppriseChannel:
    """Sends by one of apprise's services. Needs ``qkt[alerts]``."""

    def __init__(self, service: Any, url: str, label: str) -> None:
        self._service = service
        self._label = label
        self.name: str = _public_part(url)

    def send(self, notice: Notice) -> None:
        """Send title and body."""
        kind = {"raised": "failure", "restored": "success", "digest": "warning"}[notice.state]
        title = f"{notice.title} ({self._label})" if self._label else notice.title
        if not self._service.notify(title=title, body=notice.body, notify_type=kind):
            raise DeliveryError("apprise could not deliver")


def channel_of(url: str, label: str) -> Channel:
    """The channel behind a URL.

    A URL that apprise knows (``tgram://``, ``mailto://``, ``https://hooks.slack.com/...``) goes by apprise when it is
    installed; any other http(s) URL is a JSON webhook. Raises InvalidRequestError for the rest.
    """
    parts = urlsplit(url)
    if not parts.scheme:
        raise InvalidRequestError("an alert URL begins with a scheme, e.g. https://... or tgram://...")
    if is_installed("apprise"):
        service = _apprise_service(url)
        if service is not None:
            return AppriseChannel(service, url, label)
    if parts.scheme in ("http", "https") and parts.hostname:
        return WebhookChannel(url, label)
    raise InvalidRequestError(
        f"no way to send alerts to {parts.scheme}://...: "
        + ("apprise does not know it" if is_installed("apprise") else "it needs apprise: pip install 'qkt[alerts]'")
    )


def _apprise_service(url: str) -> Any:
    """The service of apprise behind a URL, None when it knows none; its log, which quotes the URL, is kept quiet."""
    import apprise

    def quiet(record: logging.LogRecord) -> bool:  # noqa: ARG001
        return False

    logger = logging.getLogger("apprise")
    logger.addFilter(quiet)
    try:
        return apprise.Apprise.instantiate(url)
    finally:
        logger.removeFilter(quiet)


def _public_part(url: str) -> str:
    parts = urlsplit(url)
    is_web = parts.scheme in ("http", "https")
    return f"{parts.scheme}://{parts.hostname}" if is_web else f"{parts.scheme}://"
