"""The status page as HTML, section by section. Pure; every text from outside is escaped, no style is inline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from urllib.parse import urlencode

from qkt.model.balances import CoinBalance
from qkt.model.orders import OrderView
from qkt.money import to_wire
from qkt.monitoring.observed import PositionRow
from qkt.monitoring.status.history import Mark, Spell
from qkt.monitoring.status.snapshot import Age, BrokerSnapshot, Connection, Snapshot
from qkt.monitoring.status.timeline import WINDOW_MS, timeline_svg
from qkt.monitoring.status.verdict import Verdict, seconds

_MOST_ORDERS = 100
_MOST_COINS = 12
_LATEST = 7
_GLYPHS = {"known": "✓", "warning": "!", "unknown": "?"}
_WORDS = {"known": "known", "warning": "known, with faults", "unknown": "NOT ALL KNOWN"}
_TIMELINE_STEP_MS = 5_000


def document(sections: Mapping[str, str], *, title: str, label: str) -> str:
    """The whole page. A script replaces the sections as they change; without it the page reloads every five seconds."""
    named = {name: f'<section id="{name}" class="card">{html}</section>' for name, html in sections.items()}
    verdict, others = named.pop("verdict").replace(' class="card"', ""), named
    columns = (("wide", ("orders", "timeline")), ("side", ("ages", "positions", "balances", "connection")))
    main = "".join(
        f'<div class="column {kind}">{"".join(others[name] for name in names)}</div>' for kind, names in columns
    )
    return _shell(
        title,
        f'<header><p class="brand"><b>qkt</b> {escape(label)}</p><p id="link" class="link">not live yet</p></header>'
        f'<p id="announce" class="hidden" role="status"></p>{verdict}<main>{main}</main>',
        head='<script src="status.js" defer></script><noscript><meta http-equiv="refresh" content="5"></noscript>',
    )


def sections_of(snapshot: Snapshot, verdict: Verdict, marks: Sequence[Mark], spells: Sequence[Spell]) -> dict[str, str]:
    """Section name -> HTML."""
    return {
        "verdict": _verdict(snapshot, verdict),
        "ages": _ages(snapshot),
        "orders": _orders(snapshot),
        "timeline": _timeline(snapshot, marks, spells),
        "positions": _positions(snapshot),
        "balances": _balances(snapshot),
        "connection": _connections(snapshot),
    }


def page_title(verdict: Verdict) -> str:
    """The title of the browser's tab."""
    return f"{_GLYPHS[verdict.level]} qkt: {_WORDS[verdict.level]}"


def explanation_page(broker: str, view: OrderView, entries: Sequence[tuple[int, str, str, str]]) -> str:
    """One order's story: ``entries`` are time (ms), origin, fact and change, oldest first."""
    name = view.client_order_id or view.broker_order_id
    facts = [
        ("broker", broker),
        ("symbol", view.symbol),
        ("side", "unknown" if view.side is None else view.side.value.lower()),
        ("price", _price(view)),
        ("quantity", _quantity(view)),
        ("average price", _number(view.avg_price)),
        ("status", _status(view)),
        ("venue's own word", view.venue_status or "–"),
        ("client order id", view.client_order_id or "–"),
        ("venue's order id", view.broker_order_id or "–"),
    ]
    if view.missing_quantity:
        facts.append(("missing", f"{to_wire(view.missing_quantity)} traded, and no execution shows it yet"))
    if view.reason:
        facts.append(("reason", view.reason))
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in facts)
    first_ms = entries[0][0] if entries else 0
    rows = "".join(
        f'<tr><td data-label="time"><time>{_time(at_ms, with_ms=True)}</time></td>'
        f'<td data-label="after" class="number">+{(at_ms - first_ms) / 1000:.3f} s</td>'
        f'<td data-label="from">{escape(origin)}</td><td data-label="evidence">{escape(fact)}</td>'
        f'<td data-label="result">{escape(change.replace(" -> ", " → "))}</td></tr>'
        for at_ms, origin, fact, change in entries
    )
    return _shell(
        f"qkt: order {name}",
        '<header><p class="brand"><b>qkt</b> <a href="./">back to the status page</a></p></header>'
        f'<main class="story"><section class="card"><h1>Order {escape(name)}</h1>'
        f'<dl class="terms">{terms}</dl></section>'
        '<section class="card"><h2>How qkt came to know it</h2>'
        '<table class="stack"><thead><tr><th>time (UTC)</th><th class="number">after</th><th>from</th>'
        f"<th>evidence</th><th>result</th></tr></thead><tbody>{rows}</tbody></table></section></main>",
    )


def message_page(title: str, text: str) -> str:
    """A page with one sentence."""
    return _shell(
        title,
        '<header><p class="brand"><b>qkt</b> <a href="./">back to the status page</a></p></header>'
        f'<main class="story"><section class="card"><h1>{escape(title)}</h1><p>{escape(text)}</p></section></main>',
    )


def _shell(title: str, body: str, *, head: str = "") -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="icon.svg" type="image/svg+xml">'
        f'<link rel="stylesheet" href="status.css">{head}</head><body>{body}</body></html>\n'
    )


def _verdict(snapshot: Snapshot, verdict: Verdict) -> str:
    rest = [*verdict.gaps[1:9], *verdict.warnings[:8]]
    hidden = len(verdict.gaps[9:]) + len(verdict.warnings[8:])
    items = "".join(f"<li>{escape(text)}</li>" for text in rest)
    items += f"<li>and {hidden} more</li>" if hidden else ""
    return (
        f'<div class="verdict {verdict.level}"><span class="glyph" aria-hidden="true">{_GLYPHS[verdict.level]}</span>'
        f"<div><h1>{escape(verdict.sentence)}</h1>{f'<ul>{items}</ul>' if items else ''}</div>"
        f'<time class="at">{_time(snapshot.at_ms)} UTC</time></div>'
    )


def _ages(snapshot: Snapshot) -> str:
    groups = "".join(
        f'<h3>{escape(broker.name)}</h3><ul class="bars">{"".join(map(_age_bar, broker.ages))}</ul>'
        for broker in snapshot.brokers
    )
    return f"<h2>Age of what is known</h2>{groups}"


def _age_bar(age: Age) -> str:
    share = 1.0 if age.age_ms is None else min(1.0, age.age_ms / max(1, age.bound_ms))
    told = "never read" if age.age_ms is None else seconds(age.age_ms)
    state = "beyond" if age.is_beyond else "late" if share > 0.67 else "fresh"
    return (
        f'<li class="{state}"><span class="domain">{age.domain}</span>'
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="8"/><rect class="fill" width="{share * 100:.1f}" height="8"/></svg>'
        f'<span class="number">{told} <span class="muted">of {seconds(age.bound_ms)}</span></span></li>'
    )


def _orders(snapshot: Snapshot) -> str:
    rows = [(broker, view) for broker in snapshot.brokers for view in broker.orders]
    rows.sort(key=lambda row: (not row[1].is_unresolved, not row[1].missing_quantity))
    head = f'<h2>Open orders <span class="muted">{len(rows)}</span></h2>'
    if not rows:
        return f'{head}<p class="empty">No open orders.</p>'
    has_protection = any(_protection(view) for _, view in rows)
    body = "".join(_order_row(snapshot, broker, view, has_protection) for broker, view in rows[:_MOST_ORDERS])
    more = f'<p class="muted">and {len(rows) - _MOST_ORDERS} more</p>' if len(rows) > _MOST_ORDERS else ""
    protection = "<th>protection</th>" if has_protection else ""
    return (
        f'{head}<table class="stack"><thead><tr><th>order</th><th>symbol</th><th>side</th>'
        f'<th class="number">filled / quantity</th><th class="number">price</th><th>status</th>'
        f'<th class="number">missing</th>{protection}</tr></thead><tbody>{body}</tbody></table>{more}'
    )


def _order_row(snapshot: Snapshot, broker: BrokerSnapshot, view: OrderView, has_protection: bool) -> str:
    name = view.client_order_id or view.broker_order_id
    wanted = {"broker": broker.name, "id": view.client_order_id, "venue_id": view.broker_order_id}
    link = f"order?{urlencode({key: value for key, value in wanted.items() if value})}"
    since_ms = broker.unresolved_since_ms.get(name)
    status = _status(view) if since_ms is None else f"unresolved for {seconds(snapshot.at_ms - since_ms)}"
    state = "unresolved" if view.is_unresolved else "open"
    missing = to_wire(view.missing_quantity) if view.missing_quantity else "–"
    missing_class = "alarm" if view.missing_quantity else "none"
    side = "–" if view.side is None else view.side.value.lower()
    outside = ' <span class="tag">external</span>' if view.external else ""
    protection = f'<td data-label="protection">{escape(_protection(view)) or "none"}</td>' if has_protection else ""
    return (
        f'<tr class="{state}"><td data-label="order"><a href="{escape(link)}" title="{escape(name)}: explain">'
        f"{escape(_short(name))}</a>{outside}</td>"
        f'<td data-label="symbol">{escape(_symbol(view.symbol))}</td>'
        f'<td data-label="side" class="side {side}">{side}</td>'
        f'<td data-label="filled / quantity" class="number">{escape(_quantity(view))}</td>'
        f'<td data-label="price" class="number">{escape(_price(view))}</td>'
        f'<td data-label="status"><span class="status {state}">{escape(status)}</span></td>'
        f'<td data-label="missing" class="number {missing_class}">{missing}</td>'
        f"{protection}</tr>"
    )


def _timeline(snapshot: Snapshot, marks: Sequence[Mark], spells: Sequence[Spell]) -> str:
    end_ms = -(-snapshot.at_ms // _TIMELINE_STEP_MS) * _TIMELINE_STEP_MS
    pictures = "".join(timeline_svg(marks, spells, end_ms=end_ms, is_narrow=narrow) for narrow in (False, True))
    latest: list[tuple[int, str, str]] = [(mark.at_ms, mark.kind, f"{mark.broker} {mark.text}") for mark in marks]
    for spell in spells:
        latest.append((spell.since_ms, "degraded", f"{spell.broker} {spell.domain} degraded: {spell.reason}"))
        if spell.until_ms is not None:
            lasted = seconds(spell.until_ms - spell.since_ms)
            latest.append((spell.until_ms, "restored", f"{spell.broker} {spell.domain} restored after {lasted}"))
    latest.sort(reverse=True)
    items = "".join(
        f'<li class="{kind}"><time>{_time(at_ms)}</time> <span>{escape(text)}</span></li>'
        for at_ms, kind, text in latest[:_LATEST]
    )
    told = f'<ol class="latest">{items}</ol>' if items else '<p class="empty">Nothing happened.</p>'
    return f'<h2>Last {WINDOW_MS // 60_000} minutes <span class="muted">UTC</span></h2>{pictures}{told}'


def _positions(snapshot: Snapshot) -> str:
    held = [row for broker in snapshot.brokers for row in broker.positions or ()]
    head = "<h2>Positions</h2>"
    if all(broker.positions is None for broker in snapshot.brokers):
        return f'{head}<p class="empty">No broker here has positions: spot holds coins.</p>'
    if not held:
        return f'{head}<p class="empty">Flat.</p>'
    has_exits = any(row.protection is not None for row in held)
    body = "".join(_position_row(row, has_exits) for row in held)
    return (
        f"{head}<table><thead><tr><th>symbol</th><th>side</th>"
        f'<th class="number">quantity</th><th class="number">entry</th>'
        f'<th class="number">profit</th>{"<th>protection</th>" if has_exits else ""}'
        f"</tr></thead><tbody>{body}</tbody></table>"
    )


def _position_row(row: PositionRow, has_exits: bool) -> str:
    is_short = row.quantity.startswith("-")
    exits = ""
    if has_exits:
        told = ", ".join(row.protection or ()) or "none"
        alarm = ' class="alarm"' if row.is_protection_lost else ""
        exits = f"<td{alarm}>{escape(told)}</td>"
    return (
        f"<tr><td>{escape(_symbol(row.symbol))}</td>"
        f'<td class="side {"sell" if is_short else "buy"}">{"short" if is_short else "long"}</td>'
        f'<td class="number">{escape(row.quantity.removeprefix("-"))}</td>'
        f'<td class="number">{escape(row.avg_price)}</td>'
        f'<td class="number">{escape(row.unrealized_pnl or "–")}</td>{exits}</tr>'
    )


def _balances(snapshot: Snapshot) -> str:
    parts = []
    for client in snapshot.connections:
        coins = sorted((coin, held) for coin, held in client.wallet.coins.items() if held.total)
        if not coins:
            continue
        age = (
            ""
            if client.wallet_age_ms is None
            else f' <span class="muted">as of {seconds(client.wallet_age_ms)} ago</span>'
        )
        name = f"<h3>{escape(client.name)}</h3>" if len(snapshot.connections) > 1 else ""
        body = "".join(_coin_row(coin, held) for coin, held in coins[:_MOST_COINS])
        more = f'<p class="muted">and {len(coins) - _MOST_COINS} more coins</p>' if len(coins) > _MOST_COINS else ""
        parts.append(
            f"<h2>Balances{age}</h2>{name}<table><thead><tr><th>coin</th><th class='number'>total</th>"
            f"<th class='number'>locked</th></tr></thead><tbody>{body}</tbody></table>{more}"
        )
    return "".join(parts) or '<h2>Balances</h2><p class="empty">None known.</p>'


def _coin_row(coin: str, held: CoinBalance) -> str:
    return (
        f'<tr><td>{escape(coin)}</td><td class="number">{_number(held.total)}</td>'
        f'<td class="number">{_number(held.locked)}</td></tr>'
    )


def _connections(snapshot: Snapshot) -> str:
    parts = ["<h2>Connection</h2>"]
    for client in snapshot.connections:
        if len(snapshot.connections) > 1:
            parts.append(f"<h3>{escape(client.name)}</h3>")
        parts.append(f'<dl class="terms">{"".join(_connection_terms(client))}</dl>')
    for broker in snapshot.brokers:
        if broker.ownership is not None:
            owner = f"{broker.ownership.state}: {broker.ownership.owner or 'free'}, epoch {broker.ownership.epoch}"
            parts.append(f'<dl class="terms">{_term(f"owner of {broker.name}", owner)}</dl>')
    if not snapshot.connections:
        parts.append('<p class="empty">No connection: these brokers work in this process.</p>')
    return "".join(parts)


def _connection_terms(client: Connection) -> list[str]:
    frame = "" if client.frame_age_ms is None else f", last frame {seconds(client.frame_age_ms)} ago"
    lost = "" if not client.losses else f", lost {client.losses}×"
    terms = [_term("stream", f"{client.stream}{frame}{lost}", is_bad=client.stream not in ("live", "local"))]
    if client.request_limit_in_5_s is not None and client.requests_in_5_s is not None:
        used, limit = client.requests_in_5_s, client.request_limit_in_5_s
        text = f"{limit - used} of {limit} requests free"
        if client.shut_out_ms:
            text = f"refused by the venue for {seconds(client.shut_out_ms)}"
        terms.append(_term("request budget", text, is_bad=bool(client.shut_out_ms) or limit - used < limit / 10))
    if client.clock_offset_ms is not None:
        terms.append(
            _term(
                "clock",
                _clock(client.clock_offset_ms),
                is_bad=abs(client.clock_offset_ms) > 1_000,
            )
        )
    return terms


def _clock(offset_ms: int) -> str:
    """How this machine's clock stands to the venue's."""
    if not offset_ms:
        return "equal to the venue's"
    return f"{abs(offset_ms)} ms {'behind' if offset_ms > 0 else 'ahead of'} the venue's"


def _term(name: str, text: str, *, is_bad: bool = False) -> str:
    return f"<dt>{escape(name)}</dt><dd{' class=alarm' if is_bad else ''}>{escape(text)}</dd>"


def _protection(view: OrderView) -> str:
    """Exits attached to an order, where the view names them."""
    exits = [("stop", getattr(view, "stop_loss", None)), ("target", getattr(view, "take_profit", None))]
    return ", ".join(f"{name} {to_wire(price)}" for name, price in exits if isinstance(price, Decimal))


def _status(view: OrderView) -> str:
    return "unresolved" if view.is_unresolved else view.status.value.lower().replace("_", " ")


def _quantity(view: OrderView) -> str:
    whole = "?" if view.quantity is None else _number(view.quantity)
    return f"{_number(view.cum_quantity)} / {whole}{' quote' if view.quote_sized else ''}"


def _price(view: OrderView) -> str:
    parts = []
    if view.stop_price is not None:
        parts.append(f"stop {_number(view.stop_price)}")
    if view.limit_price is not None:
        parts.append(_number(view.limit_price))
    return " → ".join(parts) or view.order_type.value.lower().replace("_", " ")


def _number(value: Decimal | None) -> str:
    if value is None:
        return "–"
    text = to_wire(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _symbol(symbol: str) -> str:
    return symbol.partition(":")[2] or symbol


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:12]}…{name[-8:]}"


def _time(at_ms: int, *, with_ms: bool = False) -> str:
    text = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S.%f" if with_ms else "%H:%M:%S")
    return text[:-3] if with_ms else text
