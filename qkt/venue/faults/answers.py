"""Replaces or alters answers as the armed faults say, over HTTP and over ``/v5/trade`` alike."""

from __future__ import annotations

from ..api.answer import Answer
from ..exchange.retcodes import TEXTS
from .registry import Fault

_HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>cloud front</body></html>"
_REASONS = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Time-out"}


def replacement(fault: Fault, now_ms: int) -> Answer | None:
    """The answer a fault gives instead of the venue's; None for a fault that gives none."""
    match fault.name:
        case "rate_limited":
            headers = {
                "X-Bapi-Limit": "20",
                "X-Bapi-Limit-Status": "0",
                "X-Bapi-Limit-Reset-Timestamp": str(now_ms + int(fault["reset_ms"])),
            }
            return _ret_code(10006, "Too many visits. Exceeded the API Rate Limit.", now_ms, headers)
        case "http_429":
            return Answer(status=429, text="Too Many Requests", content_type="text/plain")
        case "ip_ban":
            return Answer(status=403, text="403, access too frequent", content_type="text/plain")
        case "http_status":
            status = int(fault["status"])
            reason = _REASONS.get(status, "Error")
            return Answer(status=status, text=_HTML.format(f"{status} {reason}"), content_type="text/html")
        case "html_body":
            text = _HTML.format("Please wait while we check your browser")
            return Answer(status=int(fault["status"]), text=text, content_type="text/html")
        case "empty_body":
            return Answer(text="")
        case "ret_code":
            return _ret_code(int(fault["code"]), str(fault["text"]), now_ms, {})
    return None


def alter(answer: Answer, fault: Fault) -> None:
    """Change the content of a successful answer; it stays well-formed."""
    if fault.name == "wrong_content_type":
        answer.content_type = str(fault["content_type"])
    envelope = answer.envelope
    if envelope is None or envelope["retCode"] != 0:
        return
    result = envelope["result"]
    rows = result.get("list") if isinstance(result, dict) else None
    match fault.name:
        case "empty_result":
            envelope["result"] = {}
        case "null_result":
            envelope["result"] = None
        case "missing_list" if isinstance(result, dict):
            envelope["result"] = {name: value for name, value in result.items() if name != "list"}
        case "malformed_row" if rows and int(fault["row"]) < len(rows):
            row = dict(rows[int(fault["row"])])
            row.pop(str(fault["field"]), None)
            if fault["value"] is not None:
                row[str(fault["field"])] = fault["value"]
            at = int(fault["row"])
            envelope["result"] = {**result, "list": [*rows[:at], row, *rows[at + 1 :]]}


def _ret_code(code: int, text: str, now_ms: int, headers: dict[str, str]) -> Answer:
    envelope = {
        "retCode": code,
        "retMsg": text or TEXTS.get(code, "Error"),
        "result": {},
        "retExtInfo": {},
        "time": now_ms,
    }
    return Answer(envelope=envelope, headers=headers)
