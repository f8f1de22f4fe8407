"""Paper trading: orders fill on the prices you feed, by the rules of `qkt.broker.paper.matching`, and on nothing else.

Feed it from anywhere, e.g. a public stream or a file; ``on_price(symbol, price)`` matches and, on your thread, delivers
the events before it returns. There is no thread and no chance in it: the same calls give the same events.

What it is not: a book. One price stands for the market, a limit order fills as soon as that price reaches it, there is
no queue, and an order does not move the price. Results are therefore an upper bound on a real venue's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from qkt.broker.paper.local import LocalBroker
from qkt.broker.paper.matching import Coins, FeeRates, PaperMarket
from qkt.broker.price_source import PriceSource
from qkt.broker.protocol import OrderTypeCapability
from qkt.broker.risk import RiskLimits
from qkt.bus import EventBus
from qkt.clock import Clock
from qkt.errors import InvalidRequestError
from qkt.events import BalancesUpdated
from qkt.model.balances import CoinBalance, Wallet
from qkt.model.checks import check_changes, check_order
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.money import ZERO, require_decimal, require_positive
from qkt.orders.facts import AnyFact
from qkt.positions import base_coin_of

_CAN = frozenset(
    {
        OrderTypeCapability.MARKET,
        OrderTypeCapability.LIMIT,
        OrderTypeCapability.STOP,
        OrderTypeCapability.STOP_LIMIT,
        OrderTypeCapability.IF_TOUCHED,
        OrderTypeCapability.MODIFY,
        OrderTypeCapability.POST_ONLY,
        OrderTypeCapability.QUOTE_SIZED,
        OrderTypeCapability.BATCH,
    }
)


class PaperBroker(LocalBroker):
    """A broker that trades against ``on_price``.

    ``maker_fee_rate`` and ``taker_fee_rate`` are shares (``Decimal("0.001")`` is 0.1 %, the spot base rate; below zero
    is a rebate), by default zero. Fees are paid as on the venue: a buy in base coin, a sell in quote coin, a rebate
    the other way round, derivatives in quote coin.

    ``balances`` (coin -> amount) makes it refuse what the account cannot pay, hold back what resting spot orders need,
    and publish `BalancesUpdated` on every change; None is an account without end. ``coins`` names base and quote of
    symbols that do not say (``{"ACME:42": ("GOLD", "USD")}``). ``serves(symbol)`` narrows the symbols, by default all.

    ``rules(symbol)`` gives the venue's instrument rules, e.g. a live broker's ``rules``: paper then refuses what that
    venue would refuse. ``risk_limits`` limit what is taken, as at the live brokers.
    """

    capabilities = _CAN

    def __init__(
        self,
        bus: EventBus,
        clock: Clock | None = None,
        *,
        name: str = "PAPER",
        maker_fee_rate: Decimal | int = ZERO,
        taker_fee_rate: Decimal | int = ZERO,
        balances: Mapping[str, Decimal] | None = None,
        coins: Mapping[str, Coins] | None = None,
        serves: Callable[[str], bool] | None = None,
        rules: Callable[[str], InstrumentRules | None] | None = None,
        risk_limits: RiskLimits | None = None,
    ) -> None:
        self._rules = rules
        self._known_rules: dict[str, InstrumentRules | None] = {}
        named = dict(coins or {})
        fees = FeeRates(
            maker=require_decimal(maker_fee_rate, "maker_fee_rate"),
            taker=require_decimal(taker_fee_rate, "taker_fee_rate"),
        )
        market = PaperMarket(
            fees=fees,
            coins_of=lambda symbol: named.get(symbol) or coins_of(symbol),
            balances=None if balances is None else {c: require_decimal(held, c) for c, held in balances.items()},
            rules_of=self._known_rules.get,
            id_prefix=name.lower(),
        )
        self._serves = serves
        self._told = Wallet()
        super().__init__(bus, clock, market, name=name, risk_limits=risk_limits)
        self._tell_balances()
        bus.deliver()

    def on_price(self, symbol: str, price: Decimal | int, liquidity: Decimal | int | None = None) -> None:
        """Set the price of ``symbol``, with up to ``liquidity`` in base coin to trade at it (None: without limit).

        Everything that the price fills or triggers does so now; remaining ``liquidity`` serves orders that arrive
        before the next price. Raises InvalidRequestError for a float or a symbol that is not served; after `close` it
        does nothing, so that a price feed may outlive the broker.
        """
        traded_at = require_positive(price, "price")
        size = None if liquidity is None else require_decimal(liquidity, "liquidity")
        if size is not None and size < 0:
            raise InvalidRequestError(f"liquidity must not be below zero, got {size}")
        if not self.supports(symbol):
            raise InvalidRequestError(f"{self.name} does not serve {symbol!r}")
        if self._state.is_closed:
            return
        with self._lock:
            now_ms = self._clock.now_ms()
            self._absorb_rows(self._market.trade(symbol, traded_at, size, now_ms), now_ms)
        self._bus.deliver()

    def follow(self, prices: PriceSource) -> None:
        """Trade against a feed: each last price of it that is of a served symbol goes to `on_price`."""

        def take(symbol: str, price: Decimal) -> None:
            if self.supports(symbol):
                self.on_price(symbol, price)

        prices.on_price(take)

    def price(self, symbol: str) -> Decimal | None:
        """Last price set for ``symbol``, None before the first."""
        with self._lock:
            return self._market.prices.get(symbol)

    @property
    def balances(self) -> Mapping[str, Decimal]:
        """Coin -> balance, locked amounts included; empty for an account without a limit."""
        return self.wallet.totals

    @property
    def wallet(self) -> Wallet:
        """Per coin total, locked and available; empty for an account without a limit."""
        with self._lock:
            return self._wallet()

    def supports(self, symbol: str) -> bool:
        """True for every symbol, or the result of ``serves``."""
        return self._serves is None or self._serves(symbol)

    def rules(self, symbol: str) -> InstrumentRules | None:
        """The venue's rules for a symbol, None where none were given."""
        return None if self._rules is None else self._rules(symbol)

    def _prepare(self, requests: Sequence[OrderRequest]) -> None:
        for symbol in {request.symbol for request in requests if isinstance(request, OrderRequest)}:
            self._known_rules[symbol] = self.rules(symbol)  # may ask a venue, so never under the lock

    def _check(self, request: OrderRequest) -> None:
        self._market.check(request)
        check_order(request, self._known_rules.get(request.symbol), self._market.prices.get(request.symbol))

    def _check_changes(self, order: OrderView, changes: OrderModification) -> None:
        check_changes(order, changes, self._known_rules.get(order.symbol), self._market.prices.get(order.symbol))

    def _absorb(self, facts: Iterable[AnyFact]) -> None:
        super()._absorb(facts)
        self._tell_balances()

    def _wallet(self) -> Wallet:
        coins = {}
        for coin, total in (self._market.totals or {}).items():
            locked = self._market.locked(coin)
            coins[coin] = CoinBalance(total=total, locked=locked, available=total - locked)
        return Wallet(coins=coins)

    def _tell_balances(self) -> None:
        """Publish the balances that fills and reservations changed; called under the lock or during construction."""
        wallet = self._wallet()
        changed = frozenset(coin for coin in wallet if wallet[coin] != self._told.get(coin))
        if changed:
            self._told = wallet
            self._publish(BalancesUpdated(balances=wallet.totals, source=self.name, wallet=wallet, changed=changed))

    def __repr__(self) -> str:
        state = " closed" if self._state.is_closed else ""
        with self._lock:
            prices = {symbol: str(price) for symbol, price in self._market.prices.items()}
        return f"<PaperBroker {self.name}{state} open_orders={len(self.open_orders())} prices={prices}>"


def coins_of(symbol: str) -> Coins | None:
    """Base and quote coin from a symbol's name; base "" for derivatives, None where the name does not show them.

    ``"BYBIT_SPOT:BTCUSDT"`` -> ``("BTC", "USDT")``, ``"BYBIT_LINEAR:BTCUSDT"`` -> ``("", "USDT")``.
    """
    pair = symbol.rpartition(":")[2]
    base = base_coin_of(pair)
    if base is None:
        return None
    quote = pair.removeprefix(base).lstrip("-/_")
    return (base if base_coin_of(symbol) is not None else "", quote)
