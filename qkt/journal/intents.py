"""Names of intents, and the deterministic link ids made of them (rule P3). Pure.

A link id is what the venue sees of an attempt: ``qkj-<epoch>-<digest>-<attempt>``, at most 36 characters of
``[A-Za-z0-9_-]``. Epoch and attempt are in base 36; the digest is 100 bits of SHA-256 over account and intent. The same
epoch, account, intent and attempt give the same id on every machine, so a venue that still knows the id refuses a
second create, and a row on the private stream tells which epoch sent it (rule P7).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping

import attrs

from qkt.errors import InvalidRequestError

MAX_INTENT_LENGTH = 200
MAX_EPOCH = 36**7 - 1
MAX_ATTEMPT = 36**3 - 1

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_DIGEST_LENGTH = 20
_LINK_ID = re.compile(rf"qkj-([0-9a-z]{{1,7}})-([a-z2-7]{{{_DIGEST_LENGTH}}})-([0-9a-z]{{1,3}})\Z")


@attrs.frozen(kw_only=True)
class LinkId:
    """The parts of a link id: the owner's epoch, the digest of account and intent, and the attempt."""

    epoch: int
    digest: str
    attempt: int


def link_id(account: str, intent: str, *, epoch: int, attempt: int) -> str:
    """The link id of one attempt of an intent; raises InvalidRequestError for a number that does not fit."""
    if not 1 <= epoch <= MAX_EPOCH:
        raise InvalidRequestError(f"epoch {epoch} does not fit into a link id: it must be 1 to {MAX_EPOCH}")
    if not 1 <= attempt <= MAX_ATTEMPT:
        raise InvalidRequestError(f"attempt {attempt} does not fit into a link id: it must be 1 to {MAX_ATTEMPT}")
    return f"qkj-{_base36(epoch)}-{intent_digest(account, intent)}-{_base36(attempt)}"


def parse_link_id(text: str) -> LinkId | None:
    """The parts of a link id made by `link_id`, or None for any other client order id."""
    match = _LINK_ID.match(text)
    if match is None:
        return None
    return LinkId(epoch=int(match.group(1), 36), digest=match.group(2), attempt=int(match.group(3), 36))


def intent_digest(account: str, intent: str) -> str:
    """20 characters of base 32 (100 bits) that stand for this intent of this account."""
    # The length of the account stands first, so that no two pairs give the same text.
    digest = hashlib.sha256(f"{len(account)}:{account}:{intent}".encode()).digest()
    return base64.b32encode(digest).decode().lower()[:_DIGEST_LENGTH]


def terms_fingerprint(terms: Mapping[str, str]) -> str:
    """A hash of an order's terms: two orders with equal terms, in any order of the keys, have the same one."""
    text = json.dumps(dict(terms), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def validate_intent(value: object) -> str:
    """Refuse what cannot name an intent: empty or padded text, control characters, more than 200 characters."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"intent must be text, not {type(value).__name__}")
    if not value:
        raise InvalidRequestError("intent is empty; leave it out and the submit is an intent of its own")
    if len(value) > MAX_INTENT_LENGTH:
        raise InvalidRequestError(f"intent has {len(value)} characters; at most {MAX_INTENT_LENGTH} are kept")
    if value != value.strip() or not value.isprintable():
        raise InvalidRequestError(f"intent {value!r} begins or ends with a space, or holds a control character")
    return value


def _base36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text
