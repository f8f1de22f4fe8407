"""Every error qkt raises, split by what the caller can do about it.

::

    QktError ─┬─ InvalidRequestError     fix the call: it never left
              │     └─ IntentConflictError   the intent already stands for another order (carries the permit)
              ├─ BybitConnectError       no session: bad key, unreachable host, refused login
              ├─ BybitApiError           the venue refused it: definite (carries ret_code, ret_msg)
              ├─ VenueUnavailableError   nothing happened: safe to try again (carries retry_after_ms)
              │     ├─ BybitRateLimitError   the budget is spent: nothing was sent, or the venue turned it away unread
              │     └─ StalePriceError       a market price is not known, or is too old to be used
              ├─ OutcomeUnknownError     it may have happened: look it up by client_order_id, do not resend
              ├─ VenueProtocolError      the venue broke its own format (carries path and a redacted excerpt)
              ├─ NotOwnerError           another process owns the account: nothing was sent (carries owner and epoch)
              ├─ JournalError            the journal's content or schema does not allow the call
              │     ├─ JournalUnavailableError   the journal cannot be reached: no permit, nothing was sent
              │     └─ PermitExistsError         the same attempt was permitted before: look it up (carries the permit)
              ├─ ReconcileError          the first round was incomplete (carries the report)
              └─ WaitTimeoutError        the state waited for did not come in time (carries the view)

No message, repr or traceback of these carries a key or a signature: what comes from the wire is redacted before it is
put into an error.
"""

from __future__ import annotations

from typing import Any


class QktError(Exception):
    """The root: ``except QktError`` catches everything qkt raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy text and fields as they are, whatever arguments the class was made with."""
        return _rebuilt, (type(self), self.args, self.__dict__.copy())


def _rebuilt(kind: type[QktError], args: tuple[Any, ...], fields: dict[str, Any]) -> QktError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class InvalidRequestError(QktError, ValueError):
    """The call itself is wrong; nothing was sent. The message says what, why and what to do."""


class IntentConflictError(InvalidRequestError):
    """The intent already stands for an order with other terms; ``permit`` is the one it stands for."""

    def __init__(self, message: str, *, permit: Any = None) -> None:
        self.permit = permit
        super().__init__(message)


class BybitConnectError(QktError):
    """No session could be made: the host is unreachable, the key is bad, or the login was refused."""


class BybitApiError(QktError):
    """The venue answered with a refusal: a definite no.

    Source: docs v5/error. Texts drift, numbers do not: branch on ``ret_code`` only.
    """

    def __init__(
        self, ret_code: int, ret_msg: str = "", *, path: str = "", trace_id: str = "", what_to_do: str = ""
    ) -> None:
        self.ret_code = ret_code
        self.ret_msg = ret_msg
        self.path = path
        self.trace_id = trace_id
        self.what_to_do = what_to_do
        where = f"{path} " if path else ""
        trace = f" trace_id={trace_id}" if trace_id else ""
        advice = f"; {what_to_do}" if what_to_do else ""
        super().__init__(f"{where}ret_code={ret_code} ret_msg={ret_msg!r}{trace}{advice}")


class VenueUnavailableError(QktError):
    """Nothing happened at the venue: it is safe to try again, after ``retry_after_ms`` where that is known."""

    def __init__(self, message: str, *, path: str = "", retry_after_ms: int | None = None) -> None:
        self.path = path
        self.retry_after_ms = retry_after_ms
        super().__init__(message)


class BybitRateLimitError(VenueUnavailableError):
    """The request budget is spent: nothing was done. ``retry_after_ms`` says when there is room again.

    Source: docs v5/rate-limit (ret_code 10006 per UID, HTTP 403 per IP).
    """

    def __init__(
        self, message: str, *, path: str = "", retry_after_ms: int | None = None, ret_code: int | None = None
    ) -> None:
        self.ret_code = ret_code
        super().__init__(message, path=path, retry_after_ms=retry_after_ms)


class StalePriceError(VenueUnavailableError):
    """A market price is not known, is older than allowed, or came before the connection was lost."""


class OutcomeUnknownError(QktError):
    """A write left and no definite answer came: it may have happened. Never resend; look it up.

    ``signed_ms`` is the signed timestamp in venue time and ``recv_window_ms`` how long the venue honours it: together
    they bound how late the request can still arrive. ``ret_code`` is set when the venue itself said it does not know.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str = "",
        signed_ms: int | None = None,
        recv_window_ms: int | None = None,
        ret_code: int | None = None,
    ) -> None:
        self.path = path
        self.signed_ms = signed_ms
        self.recv_window_ms = recv_window_ms
        self.ret_code = ret_code
        super().__init__(message)


class VenueProtocolError(QktError):
    """The venue's message has not the documented shape; ``excerpt`` is a redacted piece of it."""

    def __init__(self, message: str, *, path: str = "", excerpt: str = "") -> None:
        self.path = path
        self.excerpt = excerpt
        super().__init__(message if not excerpt else f"{message}: {excerpt}")


class NotOwnerError(QktError):
    """Another process owns the account, so nothing was sent; ``owner`` is its name and ``epoch`` the epoch it holds.

    ``owner`` is empty where the lease is free: it was released, or taken for another reason.
    """

    def __init__(self, message: str, *, account: str = "", owner: str = "", epoch: int = 0) -> None:
        self.account = account
        self.owner = owner
        self.epoch = epoch
        super().__init__(message)


class JournalError(QktError):
    """The journal's content, schema or cursor does not allow the call; the message says what to do."""


class JournalUnavailableError(JournalError):
    """The journal could not be reached in time: no permit was given and nothing was sent to the venue.

    A write may still have been committed. A permit of that kind stays open and is resolved like any other.
    """


class PermitExistsError(JournalError):
    """The same attempt of the intent was permitted before; ``permit`` is that row. Look the order up, do not send."""

    def __init__(self, message: str, *, permit: Any = None) -> None:
        self.permit = permit
        super().__init__(message)


class ReconcileError(QktError):
    """A broker could not read the venue's whole state at construction; ``report`` says which path failed and why."""

    def __init__(self, message: str, *, report: Any = None) -> None:
        self.report = report
        super().__init__(message)


class WaitTimeoutError(QktError, TimeoutError):
    """The order did not reach the awaited state in time; ``view`` is what is known of it now."""

    def __init__(self, message: str, *, view: Any = None) -> None:
        self.view = view
        super().__init__(message)
