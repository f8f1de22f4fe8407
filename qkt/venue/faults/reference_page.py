"""Writes the reference page of the faults from the catalogue.

``python -m qkt.venue.faults.reference_page > docs/reference/venue-faults.md`` renews the page; a test compares the two.
"""

from __future__ import annotations

import sys

from .kinds import KINDS, FaultKind

_INTRO = """# Faults of the simulated venue

What can go wrong between a client and the venue, by name. Arm a fault in Python or over HTTP:

```python
from qkt.venue import SimulatedBybit

with SimulatedBybit(seed=1) as venue:
    fault = venue.faults.add("reply_lost", path="/v5/order/create", count=1)
    print(fault.hits)  # how often it applied: 0, because no order was sent yet
    fault.remove()
```

```sh
curl localhost:8765/_venue/faults -H 'Content-Type: application/json' \\
  -d '{"name": "reply_lost", "path": "/v5/order/create", "count": 1}'
curl localhost:8765/_venue/faults
curl -X DELETE localhost:8765/_venue/faults/1
```

Every fault takes these options besides its own parameters:

| Option | Meaning | Default |
|---|---|---|
| `count` | strike at most so often | no limit |
| `probability` | of each match to strike, decided by the venue's seed | `1.0` |
| `after` | spare the first so many matches | `0` |
| `start_ms` | open only so long from now (venue clock) | at once |
| `window_ms` | close so long after opening | never |
| `path`, `method`, `symbol`, `account` | only requests (or frames) that match; `*` globs | any |
| `topic` | only frames (or subscriptions) of that topic, in all its variants | any |

Faults compose: all that match strike, in the order in which they were armed. Each hit is in the journal
(`event: fault`), and `truth()` is not altered by any of them.

The faults of requests and replies strike order entry by WebSocket (`/v5/trade`) as well. There `method` is `WS` and
`path` is that of the REST endpoint with the same effect, for example `/v5/order/create`. An HTTP status has no place in
that protocol: 429 becomes retCode 10429, 403 becomes 10403, any other 10016.
"""


def reference_page() -> str:
    """The page as Markdown."""
    parts = [_INTRO]
    group = ""
    for kind in KINDS.values():
        if kind.group != group:
            group = kind.group
            parts.append(f"## {_TITLES[group]}\n")
        parts.append(_section(kind))
    return "\n".join(parts)


_TITLES = {
    "TCP": "TCP: the connection itself",
    "HTTP": "HTTP: requests and replies",
    "Stream": "Stream: frames and sessions",
    "Venue": "Venue: answers that are well formed and not true, and events from outside the API",
    "Time": "Time",
}


def _section(kind: FaultKind) -> str:
    lines = [f"### `{kind.name}`", "", kind.does, ""]
    if kind.params:
        shown = ", ".join(f"`{name}={value!r}`" for name, value in kind.params.items())
        lines += [f"Parameters and defaults: {shown}.", ""]
    lines += [f"*What makes it real:* {kind.real}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(reference_page())
