"""Apex for Python: `client` is the client, in pure Python; `errors` and `wire` are the types of the protocol."""
