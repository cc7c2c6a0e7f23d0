"""A client of the Apex protocol, version 1, for services: asyncio, pure Python, no native code.

    async with connect("https://chat.example.com", token=token) as client:
        async for event in client.ask("Where does our money go?"):
            print(event)

It connects by the first way in that works, and stays connected through every break. Every event of a run comes once and
in order, or a `Reset` says where the run stands.
"""

from netra_apex.client._client import Accepted, Answer, Client, connect
from netra_apex.client._closing import Way
from netra_apex.client._link import State
from netra_apex.client._stream import Cursor, Reset, Stream
from netra_apex.client._ways import Fetching
from netra_apex.errors import ErrorCode
from netra_apex.exceptions import ApexError
from netra_apex.wire import Envelope, InboxFrame

__all__ = [
    "Accepted",
    "Answer",
    "ApexError",
    "Client",
    "Cursor",
    "Envelope",
    "ErrorCode",
    "Fetching",
    "InboxFrame",
    "Reset",
    "State",
    "Stream",
    "Way",
    "connect",
]
