"""The retCodes of refusals and their texts.

Codes are those of the docs page ``v5/error``; texts follow captured replies where those differ. A refusal is raised
as an exception and becomes the answer of the request.
"""

from __future__ import annotations

TEXTS: dict[int, str] = {
    0: "OK",
    429: "The trading service is experiencing a high server load. Please retry if you encounter this issue.",
    10000: "Server Timeout",
    10001: "Request parameter error.",
    10002: "invalid request, please check your server timestamp or recv_window param",
    10003: "API key is invalid.",
    10004: "error sign!",
    10005: "Permission denied, please check your API key permissions.",
    10006: "Too many visits. Exceeded the API Rate Limit.",
    10007: "User authentication failed.",
    10010: "Unmatched IP, please check your API key's bound IP addresses.",
    10014: "Invalid duplicate request.",
    10016: "Server error.",
    10017: "Route not found.",
    10019: "The ws trade service is restarting, please build a new connection.",
    10028: "The API can only be accessed by unified account users.",
    10403: "Too many visits. Exceeded the IP Rate Limit.",
    10404: "op type is not found",
    10429: "System level frequency protection",
    20003: "Too frequent requests under the same session.",
    20006: "reqId is duplicated",
    34040: "not modified",
    33004: "Your api key has expired.",
    110001: "order not exists or too late to cancel",
    110003: "price is invalid",
    110007: "ab not enough for new order",
    110009: "The number of stop orders exceeds the maximum allowable limit",
    110013: "Cannot set leverage due to risk limit level.",
    110014: "Insufficient available balance to add additional margin.",
    110015: "The position is in cross margin mode.",
    110017: "orderQty will be truncated to zero.",
    110020: "Not allowed to have more than 500 active orders.",
    110024: "You have an existing position, so the position mode cannot be switched.",
    110025: "Position mode is not modified",
    110026: "Cross/isolated margin mode is not modified",
    110028: "You have existing open orders, so the position mode cannot be switched.",
    110029: "Hedge mode is not supported for this symbol.",
    110033: "You can't set margin without an open position",
    110043: "leverage not modified",
    110058: "You can't set take profit and stop loss due to insufficient size of remaining position size.",
    110060: "Under full TP/SL mode, it is not allowed to modify TP/SL",
    110061: "Not allowed to have more than 20 TP/SLs under Partial tpSlMode",
    110064: "The modified contract quantity cannot be less than or equal to the filled quantity.",
    110072: "OrderLinkedID is duplicate",
    110078: "Added margin more than max can reduce margin",
    110090: "Order placement failed as your position may exceed the max limit. Please adjust your leverage",
    110094: "Order does not meet minimum order value",
    110108: "Allowable range: 1 to 10000 tick size",
    110109: "Allowable range: 0.01% to 10%",
    110119: "Order failed. RPI orders are restricted to approved market makers only",
    170001: "Internal error.",
    170005: "Too many new orders; current limit is 20 orders per 1s.",
    170007: "Timeout waiting for response from backend server.",
    170032: "Network error. Please try again later",
    170035: "Submitted to the system for processing!",
    170033: "margin Insufficient account balance",
    170036: "You haven't enabled Cross Margin Trading yet.",
    170105: "Parameter '%s' was empty.",
    170115: "Invalid timeInForce.",
    170116: "Invalid orderType.",
    170117: "Invalid side.",
    170121: "Invalid symbol.",
    170124: "Order amount too large.",
    170130: "Data sent for paramter '%s' is not valid.",
    170131: "Insufficient balance.",
    170132: "Order price too high.",
    170133: "Order price lower than the minimum.",
    170134: "Order price decimal too long.",
    170136: "Order quantity lower than the minimum.",
    170137: "Order volume decimal too long.",
    170139: "Order has been filled.",
    170140: "Order value exceeded lower limit.",
    170141: "Duplicate clientOrderId.",
    170142: "Order has been cancelled.",
    170144: "Order has been locked",
    170146: "Order creation timeout",
    170147: "Order cancellation timeout",
    170148: "Market order amount decimal too long.",
    170149: "Create order failed",
    170150: "Cancel order failed",
    170190: "Cancel order has been finished",
    170191: "Can not cancel order, please try again later",
    170193: "Buy order price cannot be higher than %s.",
    170194: "Sell order price cannot be lower than %s.",
    170201: "Invalid orderFilter parameter",
    170202: "Please enter the TP/SL price.",
    170203: "trigger price cannot be higher than 110% price.",
    170204: "trigger price cannot be lower than 90% of qty.",
    170210: "New order rejected.",
    170212: "Cancel order request processing",
    170213: "Order does not exist.",
    170218: "The LIMIT-MAKER order is rejected due to invalid price.",
    170222: "Too many requests in this time frame.",
    170227: "This feature is not supported.",
    170234: "System Error",
    170310: "Order modification timeout",
    170311: "Order modification failed",
    170312: "The current order does not support modification",
    170313: "The modified contract quantity cannot be less than to the filled quantity",
    170341: "Request order quantity exceeds maximum limit",
    170381: "Order quantity too large.",
    170810: "Cannot exceed maximum of 500 conditional, TP/SL and active orders.",
    181010: "The time range between startTime and endTime cannot exceed 7 days",
    181017: "OrderStatus must be final status",
    500000: "System error",
}


class Refusal(Exception):
    """The refusal of a request: a retCode and its text.

    Args:
        code: the retCode of the reply.
        argument: fills the ``%s`` of the code's text.
        text: replaces the code's text.
    """

    def __init__(self, code: int, argument: object = None, *, text: str | None = None) -> None:
        self.code = code
        template = text if text is not None else TEXTS.get(code, "Error")
        self.text: str = template.replace("%s", str(argument)) if argument is not None else template
        super().__init__(f"{code} {self.text}")


def parameter_error(text: str) -> Refusal:
    """The refusal 10001 with a text that names the parameter."""
    return Refusal(10001, text=text)
