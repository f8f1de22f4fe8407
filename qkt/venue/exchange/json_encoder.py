"""The JSON encoder of all frames and replies, without spaces.

It is built once: ``json.dumps`` with arguments builds one per message, which costs a third of the time. Circular
references are not checked for, because the venue builds all input itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

to_json: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
