"""The kit a bot is tested with: a clock and a scheduler you move by hand, and a Bybit that answers as you tell it.

With these three no test needs a thread, a sleep or a socket. The same kit tests qkt itself.
"""

from qkt.testing.clock import FixedClock
from qkt.testing.contract import broker_checks, check_broker
from qkt.testing.fake_client import FakeBybitClient, RecordedRequest
from qkt.testing.scheduler import TickScheduler

__all__ = ["FakeBybitClient", "FixedClock", "RecordedRequest", "TickScheduler", "broker_checks", "check_broker"]
