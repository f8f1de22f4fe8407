"""Without the extras the package imports, and says what to install when it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
for name in ("prometheus_client", "apprise", "waitress"):
    sys.modules[name] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if sys.modules.get(name, 1) is None else found(name, *more)
from qkt import EventBus, PaperBroker
from qkt.errors import InvalidRequestError
from qkt.monitoring import Alerts, Metrics, serve_status
bus = EventBus()
broker = PaperBroker(bus)
Alerts(bus, ["http://127.0.0.1:9/"], brokers=broker).close()
try:
    {use}
except InvalidRequestError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("use", "extra"),
    [
        ("Metrics(broker)", "metrics"),
        ("serve_status(broker, 0)", "web"),
        ('Alerts(bus, ["tgram://123/456"])', "alerts"),
    ],
)
def test_a_missing_extra_is_named(use: str, extra: str) -> None:
    program = PROGRAM.replace("{use}", use)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert f"pip install 'qkt[{extra}]'" in ended.stdout, ended.stderr
