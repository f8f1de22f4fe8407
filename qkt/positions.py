"""What your fills add up to: signed quantity, average price and realised profit, per symbol.

This is the engine's own view, kept from fills and from nothing else. On spot it is deliberately not reconciled against
the wallet: a pair's net and a coin's balance are different shapes (one coin may come from five pairs, a deposit or a
loan), and forcing one onto the other would lie. On derivatives the venue has positions of the same shape; subscribe
`PositionTracker.apply_reconciliation` to `PositionReconciled` there.

Fees, exactly:

- A fee in the base coin of a spot pair is coin you did not get: it lowers ``quantity`` (a rebate raises it) and leaves
  ``avg_price`` and ``realized_pnl`` alone. Buying 1 BTC with a fee of 0.001 BTC holds 0.999 BTC, which is what you can
  sell. The part of a base-coin fee that crosses zero opens at the fill's own price.
- Every other fee, in quote coin or in a third one (MNT), changes nothing here.
- `PositionTracker.fees` adds up all of them per coin, base-coin ones included. ``realized_pnl`` is therefore always in
  quote coin and before fees. For what the account gained, subtract the quote-coin fees and the base-coin fees at the
  average price of the time: this is the venue's cash, to the last digit.

Pure arithmetic first; `PositionTracker` is the lock around it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import attrs

from qkt.errors import InvalidRequestError
from qkt.events import FillEvent, PositionReconciled
from qkt.model.orders import Side
from qkt.model.positions import Position
from qkt.money import SHOWN, ZERO, require_decimal, require_positive
from qkt.readonly import ReadOnlyDict

# Averages are thirds and sevenths: carry more digits than are shown, whatever context the caller's thread has.
_CARRIED = Context(prec=60, rounding=ROUND_HALF_EVEN)

# The venue's quote coins (docs v5/market/instrument, spot `quoteCoin`), to split BTCUSDT without asking.
# The longer of two that end alike comes first.
_QUOTE_COINS: tuple[str, ...] = (
    "USDT",
    "USDC",
    "USDE",
    "USD1",
    "RLUSD",
    "XUSD",
    "USD",
    "EUR",
    "GBP",
    "TRY",
    "BRL",
    "PLN",
)
_QUOTE_COINS += ("BTC", "ETH", "SOL", "DAI", "MNT")
# A derivative's quantity counts contracts: no fee is ever paid in those, MNT on MNTUSDT included.
_DERIVATIVES = ("_LINEAR", "_INVERSE", "_OPTION")

FillKey = tuple[str, str, str]


def base_coin_of(symbol: str) -> str | None:
    """The coin a spot pair counts its quantity in: ``"BYBIT_SPOT:BTCUSDT"`` -> ``"BTC"``; None where there is none.

    Splits at ``-``, ``/`` or ``_`` if the pair has one, else before a known quote coin.
    """
    prefix, _, pair = symbol.rpartition(":")
    if prefix.endswith(_DERIVATIVES):
        return None
    for separator in "-/_":
        if separator in pair:
            return pair.partition(separator)[0]
    return next((pair.removesuffix(quote) for quote in _QUOTE_COINS if pair.endswith(quote) and pair != quote), None)


def after_trade(position: Position, side: Side, quantity: Decimal, price: Decimal) -> Position:
    """The position once ``quantity`` (base) has traded at ``price``, fees aside; through zero if it comes to that."""
    traded = side.sign * quantity
    held = position.quantity
    if held * traded >= 0:
        total = held + traded
        return attrs.evolve(
            position, quantity=total, avg_price=(held * position.avg_price + traded * price) / total if total else ZERO
        )
    closed = min(abs(held), quantity)
    profit = closed * (price - position.avg_price) * (1 if held > 0 else -1)
    return attrs.evolve(_moved(position, held + traded, price), realized_pnl=position.realized_pnl + profit)


def after_base_fee(position: Position, fee: Decimal, price: Decimal) -> Position:
    """The position once ``fee`` of the base coin itself was taken (below zero: given): only the quantity moves."""
    return _moved(position, position.quantity - fee, price)


def _moved(position: Position, quantity: Decimal, price: Decimal) -> Position:
    """The position with another quantity: what stays on its side keeps its average, what crosses zero has ``price``."""
    same_side = quantity * position.quantity > 0
    return attrs.evolve(
        position, quantity=quantity, avg_price=ZERO if not quantity else position.avg_price if same_side else price
    )


class PositionTracker:
    """Positions from fills, external ones included: ``bus.subscribe(FillEvent, tracker.apply_fill)``.

    Each execution counts once, however often it is heard and however late it comes; a terminal event without an
    execution (``quantity`` zero) changes nothing. Thread-safe; what it returns is frozen and safe to keep.

    ``base_coin_of(symbol)`` tells which coin a symbol's quantity is counted in, None where no fee can be taken from
    it; the default reads Bybit's names. Executions are told apart by symbol, order id and execution id; the last
    ``remember`` of them are known again. Hedge-mode positions of one symbol are not told apart: fills do not say.
    """

    def __init__(self, *, base_coin_of: Callable[[str], str | None] = base_coin_of, remember: int = 100_000) -> None:
        self._base_coin_of = base_coin_of
        self._remember = remember
        self._lock = threading.Lock()
        self._positions: dict[str, Position] = {}
        self._fees: dict[str, dict[str, Decimal]] = {}
        self._seen: dict[FillKey, None] = {}

    def apply_fill(self, fill: FillEvent) -> None:
        """Count one fill: an `OrderPartiallyFilled` or `OrderFilled`. A repeated execution is ignored."""
        if not fill.quantity:
            return
        base_coin = self._base_coin_of(fill.symbol)
        with self._lock, localcontext(_CARRIED):
            if not self._first_hearing(fill):
                return
            position = after_trade(self._positions.get(fill.symbol, Position()), fill.side, fill.quantity, fill.price)
            if fill.fee and fill.fee_currency == base_coin:
                position = after_base_fee(position, fill.fee, fill.price)
            self._positions[fill.symbol] = position
            self._add_fee(fill)

    def _first_hearing(self, fill: FillEvent) -> bool:
        if not fill.exec_id:
            return True  # an event built by a user: without an id a repeated one cannot be recognised
        key = (fill.symbol, fill.broker_order_id or fill.client_order_id, fill.exec_id)
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > self._remember:
            del self._seen[next(iter(self._seen))]
        return True

    def _add_fee(self, fill: FillEvent) -> None:
        if fill.fee:
            coins = self._fees.setdefault(fill.symbol, {})
            coins[fill.fee_currency] = coins.get(fill.fee_currency, ZERO) + fill.fee

    def apply_reconciliation(self, event: PositionReconciled) -> None:
        """Take the venue's word: ``bus.subscribe(PositionReconciled, tracker.apply_reconciliation)``.

        Quantity and average become the venue's, the realised profit stays. A fill the venue had already counted and
        that is heard only later moves the position once more, until the next round corrects it again.
        """
        self.reset(event.symbol, quantity=event.new_quantity, avg_price=event.new_avg_price or None)

    def position(self, symbol: str) -> Position | None:
        """The position on ``symbol``; None if it never had a fill, zero ``quantity`` if it is flat now."""
        with self._lock:
            held = self._positions.get(symbol)
        return None if held is None else _shown(held)

    def positions(self) -> Mapping[str, Position]:
        """Symbol -> position, flat ones included."""
        with self._lock:
            held = dict(self._positions)
        return ReadOnlyDict({symbol: _shown(position) for symbol, position in held.items()})

    def fees(self, symbol: str) -> Mapping[str, Decimal]:
        """Coin -> what was paid in it for fills on ``symbol``, below zero if rebates outweigh."""
        with self._lock:
            return ReadOnlyDict(self._fees.get(symbol, {}))

    def reset(
        self, symbol: str | None = None, *, quantity: Decimal | None = None, avg_price: Decimal | None = None
    ) -> None:
        """Start over, or start from a position you know.

        ``reset()`` forgets everything, ``reset(symbol)`` that symbol: executions, fees and profit too, so that a
        replay from the beginning counts. ``reset(symbol, quantity=..., avg_price=...)`` sets the position (signed
        base quantity; price in quote, by default the average held so far) and keeps the profit, the fees and the
        executions heard: they are in the quantity you give.
        """
        if symbol is None and (quantity is not None or avg_price is not None):
            raise InvalidRequestError("reset to a quantity needs the symbol it is for")
        if quantity is None and avg_price is not None:
            raise InvalidRequestError(f"reset of {symbol} to an avg_price needs the quantity held at it")
        with self._lock:
            if symbol is None:
                self._positions, self._fees, self._seen = {}, {}, {}
            elif quantity is None:
                self._positions.pop(symbol, None)
                self._fees.pop(symbol, None)
                self._seen = {key: None for key in self._seen if key[0] != symbol}
            else:
                self._positions[symbol] = self._set_to(symbol, require_decimal(quantity, "quantity"), avg_price)

    def _set_to(self, symbol: str, quantity: Decimal, avg_price: Decimal | None) -> Position:
        held = self._positions.get(symbol, Position())
        if not quantity:
            return attrs.evolve(held, quantity=ZERO, avg_price=ZERO)
        if avg_price is None and held.quantity * quantity <= 0:
            raise InvalidRequestError(f"reset of {symbol} to {quantity} needs its avg_price: no such position was held")
        price = held.avg_price if avg_price is None else require_positive(avg_price, "avg_price")
        return attrs.evolve(held, quantity=quantity, avg_price=price)

    def __repr__(self) -> str:
        with self._lock:
            held = {symbol: str(_tidy(each.quantity)) for symbol, each in self._positions.items() if each.quantity}
            return f"<PositionTracker open={held} symbols={len(self._positions)} executions={len(self._seen)}>"


def _shown(position: Position) -> Position:
    return Position(
        quantity=_tidy(position.quantity),
        avg_price=_tidy(position.avg_price),
        realized_pnl=_tidy(position.realized_pnl),
    )


def _tidy(number: Decimal) -> Decimal:
    """Rounded to 28 digits, without the zeros that long division leaves and without an exponent."""
    rounded = number.normalize(SHOWN)
    return rounded.quantize(Decimal(1), context=SHOWN) if int(rounded.as_tuple().exponent) > 0 else rounded
