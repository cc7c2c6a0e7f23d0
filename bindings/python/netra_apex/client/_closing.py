"""What to do when a connection ends, and when: the table of close codes and the waiting times, without any IO."""

from __future__ import annotations

from typing import Literal

from netra_apex.exceptions import ApexError

Way = Literal["header", "subprotocol", "query", "hello"]
"""How a credential goes to the server."""

Action = Literal["stop", "next_way", "new_ticket", "resume"]

BASE = 0.5
MOST = 30.0


def on_close(code: int, welcomed: bool, way: Way) -> Action:
    """What a close code asks of a client.

    `stop`: do not come back unchanged. `next_way`: the next way of the chain, at once. `new_ticket`: the same way
    again, once, with a new credential; else the next way. `resume`: wait, connect again and go on from the last
    position.
    """
    if code in (1001, 1005, 1006):
        return "resume" if welcomed else "next_way"
    if code == 4401:
        return "resume" if welcomed else "new_ticket"
    if code == 4504:
        # The server saw no credential: one that went another way than by `hello` was stripped.
        return "resume" if way == "hello" else "next_way"
    if code in (1000, 1002, 1003, 1007, 1008, 1009) or 4400 <= code < 4500:
        return "stop"
    return "resume"


def backoff(failures: int, random: float) -> float:
    """How long to wait before try number `failures` (from 1), in seconds: exponential, with full jitter."""
    return min(MOST, BASE * 2 ** min(failures - 1, 16)) * random


_MEANING = {
    1000: ("cancelled", "the server closed the connection"),
    1009: ("too_large", "a frame was larger than the server takes"),
    4400: ("bad_frame", "the server understood too many frames not at all"),
    4401: ("unauthenticated", "the login is no longer valid: log in again"),
    4403: ("forbidden", "this client may not connect to the server"),
    4409: ("conflict", "a newer connection has taken over from this one"),
    4429: ("too_many_connections", "this user has too many connections open: close others, then connect again"),
}


def meaning(code: int) -> ApexError:
    """A close code that is the end, as an error."""
    name, message = _MEANING.get(code, ("unavailable", f"the server ended the connection for good (code {code})"))
    return ApexError(name, message)


def of_status(status: int) -> int:
    """The close code that stands for an HTTP refusal of the upgrade."""
    if status in (401, 403, 429):
        return 4000 + status
    return 1013 if status >= 500 else 1006
