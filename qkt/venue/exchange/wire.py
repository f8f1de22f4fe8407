"""Compact JSON, once.

One encoder for every frame and reply: building one per message, as ``json.dumps`` with arguments does, costs a third
of the time. Its input is made here and never circular.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

to_json: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
