"""Return codes of the venue, classified by what they prove about a request: refused, throttled, or ambiguous.

Numbers only: the texts drift and differ from the documentation (docs v5/error). The table is a whitelist. On a write,
only a code listed here as a refusal is a refusal; an unlisted code is AMBIGUOUS, because taking an unknown answer
for a no would let an order live that its owner believes dead.
"""

from __future__ import annotations

import enum


class Operation(enum.Enum):
    """What was asked: the same number can mean different things for different requests."""

    CREATE = "CREATE"
    AMEND = "AMEND"
    CANCEL = "CANCEL"
    READ = "READ"
    CONFIG = "CONFIG"


class Verdict(enum.Enum):
    """What an answer proves."""

    OK = "OK"  # accepted for processing, or already as wanted
    REFUSED = "REFUSED"  # a definite no: nothing was changed, and the same request will be refused again
    FATAL = "FATAL"  # a definite no to everything this key asks: a person must act
    AMBIGUOUS = "AMBIGUOUS"  # it may have happened: look it up, never resend
    THROTTLED = "THROTTLED"  # turned away unread: wait, then ask again
    CLOCK = "CLOCK"  # turned away unread, for its timestamp: resynchronise, sign anew
    GONE = "GONE"  # no such order, or it is over, or it is not visible yet: query, then decide
    DUPLICATE_ID = "DUPLICATE_ID"  # this orderLinkId is known already: look whose order it is
    BUSY = "BUSY"  # the order is being worked on: retry shortly


_CLOCK = frozenset({10002, -1})
_THROTTLED = frozenset({10006, 10018})
_THROTTLED_ON_READS = frozenset({429, 10429, 170005, 170222})

# The key, the address or the account is refused, whatever is asked. 401 and 403 are HTTP answers without an envelope.
_FATAL = frozenset({401, 403, 10003, 10004, 10005, 10007, 10008, 10009, 10010, 10027, 10028, 33004, -2015, 110088})

_TRANSIENT = frozenset({10000, 10016, 10019, 170001, 170007, 170032, 170035, 170234, 500000, 3400214})
_AMBIGUOUS = (
    _TRANSIENT
    | _THROTTLED_ON_READS  # "throttle" on an order call does not say that the order was not taken
    | frozenset({10014, 10403, 20003, 20006, 40004})  # refused, or a repetition of one that stands
    | frozenset({170146, 170147, 170149, 170150, 170310, 170311})  # created/cancelled/amended? "timeout", "failed"
)

_GONE = frozenset({110001, 170213, 110008, 110010, 170139, 170142, 170143, 170190})
_BUSY = frozenset({110079, 170144, 170191, 170212, 30035, 110114})
_DUPLICATE_ID = frozenset({110072, 170141})
_NOT_MODIFIED = frozenset({110025, 110026, 110027, 110043, 34040})

_REFUSED_ANYWHERE = frozenset(
    {
        400,  # HTTP, no envelope: malformed
        404,
        405,  # HTTP, no envelope: no such path, or a verb it does not take
        10001,  # parameter error
        10017,  # route not found
        10024,
        10029,  # compliance, symbol whitelist
        10032,  # demo trading does not support the request
        100028,
        10404,
        110018,
        110019,
        110123,
        110124,
        110125,
        110132,  # agreements, cooling-off, region
        170031,
        170105,
        170121,
        170130,
        170201,
        170221,
        170227,
        181017,
        3100197,
        3100326,
    }
)
_REFUSED_ORDERS = frozenset(
    {110003, 110120, 110121, 110116, 30208, 30209}  # linear price outside the band
    | {170132, 170133, 170192, 170193, 170194, 170371, 170372}  # spot price outside the band
    | {170134, 170137, 170148}  # too many decimals
    | {170136, 170140, 110094, 110108, 110109}  # too small, or slippage out of range
    | {170124, 170135, 170381, 170382, 170341}  # too large
    | {170197, 170198, 170199, 170200, 170228, 170229}  # would move the price too far
    | {
        110004,
        110006,
        110007,
        110012,
        110044,
        110045,
        110051,
        110052,
        110053,
        30256,
        110131,
    }  # no funds, linear
    | {170131, 170033, 170034, 170036, 170037, 170207, 176015, 170344, 170346, 3400139}  # funds, spot
    | {110005, 110011, 110017, 110039, 110040, 110046, 110047, 110048}  # position, liquidation
    | {110009, 110020, 170810}  # too many orders
    | {110021, 110022, 110023, 110042, 110063, 110066, 110067, 110068, 110069, 110070, 110074}  # market restrictions
    | {30133, 30134, 30135, 30136, 30228, 110080, 110085, 110086, 110087, 110089, 110090}
    | {110095, 110096, 110097, 110098, 110099, 110100, 110101, 110102, 110103, 110104, 110105, 110106, 110107}
    | {110118, 110119, 110135, 110136, 110137, 3200403}
    | {170010, 170011, 170019, 170151, 170157, 170159, 170195, 170196, 170202, 170206, 170209, 170215, 170216}
    | {170217, 170218, 170219, 170220, 170223, 170224, 170226, 170230, 170241, 170348, 170355, 170358, 170359, 170360}
    | {170709}
    | {110032, 110057, 110092, 110093, 170203, 170204}  # conditional orders
    | {170115, 170116, 170117, 170210}  # time in force, type, side; "new order rejected"
)
_REFUSED_AMENDS = frozenset({110059, 110060, 110064, 110117, 170312, 170313})
_REFUSED_CANCELS = frozenset({110115, 170145})
_REFUSED_CONFIG = frozenset(
    {110005, 110013, 110014, 110015, 110024, 110028, 110029, 110031, 110033, 110034, 110036, 110037, 110038}
    | {110041, 110050, 110054, 110055, 110056, 110058, 110061, 110062, 110065, 110073, 110076, 110077, 110078}
    | {110082, 110083, 110086, 110087, 110089, 3200320, 3200419, 3200425, 3200641}
)

_REFUSED = {
    Operation.CREATE: _REFUSED_ANYWHERE | _REFUSED_ORDERS,
    Operation.AMEND: _REFUSED_ANYWHERE | _REFUSED_ORDERS | _REFUSED_AMENDS,
    Operation.CANCEL: _REFUSED_ANYWHERE | _REFUSED_CANCELS | frozenset({170115, 170116, 170117, 110095, 110100}),
    Operation.CONFIG: _REFUSED_ANYWHERE | _REFUSED_CONFIG | _REFUSED_ORDERS,
}


def verdict(ret_code: int, operation: Operation) -> Verdict:
    """What ``ret_code`` proves about a request of this kind; an unlisted code on a write proves nothing."""
    if ret_code == 0 or (operation is Operation.CONFIG and ret_code in _NOT_MODIFIED):
        return Verdict.OK
    if ret_code in _CLOCK:
        return Verdict.CLOCK
    if ret_code in _THROTTLED:
        return Verdict.THROTTLED
    if ret_code in _FATAL:
        return Verdict.FATAL
    if operation is Operation.READ:
        return _verdict_on_read(ret_code)
    return _verdict_on_write(ret_code, operation)


def _verdict_on_read(ret_code: int) -> Verdict:
    if ret_code in _THROTTLED_ON_READS:
        return Verdict.THROTTLED
    if ret_code in _TRANSIENT:
        return Verdict.AMBIGUOUS
    return Verdict.GONE if ret_code in _GONE else Verdict.REFUSED


def _verdict_on_write(ret_code: int, operation: Operation) -> Verdict:
    if operation is Operation.CREATE and ret_code in _DUPLICATE_ID:
        return Verdict.DUPLICATE_ID
    if operation in (Operation.AMEND, Operation.CANCEL):
        if ret_code in _GONE:
            return Verdict.GONE
        if ret_code in _BUSY:
            return Verdict.BUSY
    if ret_code in _AMBIGUOUS:
        return Verdict.AMBIGUOUS
    return Verdict.REFUSED if ret_code in _REFUSED[operation] else Verdict.AMBIGUOUS


_PATHS = {
    "/v5/order/create": Operation.CREATE,
    "/v5/order/create-batch": Operation.CREATE,
    "/v5/order/amend": Operation.AMEND,
    "/v5/order/amend-batch": Operation.AMEND,
    "/v5/order/cancel": Operation.CANCEL,
    "/v5/order/cancel-all": Operation.CANCEL,
    "/v5/order/cancel-batch": Operation.CANCEL,
    "/v5/order/disconnected-cancel-all": Operation.CONFIG,
    "/v5/order/pre-check": Operation.CONFIG,
    "/v5/position/set-leverage": Operation.CONFIG,
    "/v5/position/switch-mode": Operation.CONFIG,
    "/v5/position/switch-isolated": Operation.CONFIG,
    "/v5/position/trading-stop": Operation.CONFIG,
    "/v5/position/set-auto-add-margin": Operation.CONFIG,
    "/v5/position/add-margin": Operation.CONFIG,
    "/v5/account/set-margin-mode": Operation.CONFIG,
    "/v5/account/set-limit-px-action": Operation.CONFIG,
    "/v5/account/demo-apply-money": Operation.CONFIG,
}


def operation_for(path: str) -> Operation:
    """The kind of request behind a path; every path that is not a known write is a READ."""
    return _PATHS.get(path, Operation.READ)


_ADVICE = {
    -2015: "the API key has expired: create a new one",
    401: "the venue refused the credentials: check key, secret and environment",
    403: "the venue refuses this address or region: check the host (regional accounts have their own) and the network",
    404: "no such endpoint for this account or verb: reads are GET, writes are POST",
    10001: "fix the parameters; nothing was done",
    10002: "the request's timestamp is outside the venue's window: synchronise the host's clock; nothing was done",
    10003: "the API key is unknown in this environment: check the key, and testnet / demo / mainnet",
    10004: "the signature is wrong: check the API secret",
    10005: "the API key lacks the permission: grant it in the venue's key settings",
    10006: "too many requests for this account: wait for the reset and ask less often; nothing was done",
    10010: "this address is not bound to the API key: add the IP in the venue's key settings",
    10018: "too many requests from this address: wait and ask less often; nothing was done",
    10028: "this endpoint needs a unified trading account",
    33004: "the API key has expired: create a new one",
    110007: "not enough available balance",
    110072: "this client order id was used before: look the order up by it",
    170131: "not enough available balance",
    170141: "this client order id was used before: look the order up by it",
}
_ADVICE_BY_VERDICT = {
    Verdict.OK: "",
    Verdict.REFUSED: "a definite refusal: change the request",
    Verdict.FATAL: "the venue refuses this key or account: a person must look",
    Verdict.AMBIGUOUS: "the venue does not know the outcome itself: look it up, do not resend",
    Verdict.THROTTLED: "wait and ask less often; nothing was done",
    Verdict.CLOCK: "synchronise the host's clock; nothing was done",
    Verdict.GONE: "the order is unknown, over, or not visible yet: query it before concluding",
    Verdict.DUPLICATE_ID: "this client order id was used before: look the order up by it",
    Verdict.BUSY: "the order is being processed: try again shortly",
}


def advice(ret_code: int, operation: Operation = Operation.CREATE) -> str:
    """What to do about a code, in one sentence; "" for success."""
    known = _ADVICE.get(ret_code)
    if known is not None:
        return known
    if ret_code in _GONE:
        return _ADVICE_BY_VERDICT[Verdict.GONE]
    if ret_code in _BUSY:
        return _ADVICE_BY_VERDICT[Verdict.BUSY]
    found = verdict(ret_code, operation)
    if operation is Operation.READ and found is Verdict.AMBIGUOUS:
        return "the venue is in trouble: try again"
    return _ADVICE_BY_VERDICT[found]
