"""The start of a connection in PostgreSQL's protocol: the client's startup packet, and the refusal of a login."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass

CANCEL_REQUEST, SSL_REQUEST, GSSENC_REQUEST = 80877102, 80877103, 80877104
"""Codes in the place of the protocol version."""
LONGEST_STARTUP = 10_000
"""Of a startup packet, in bytes; PostgreSQL's own limit."""


class ProtocolError(Exception):
    """The client does not speak PostgreSQL."""


@dataclass(frozen=True)
class Startup:
    """First packet of a connection that means something: a login, or a request to cancel a query."""

    packet: bytes
    cancel: bool
    user: str = ""
    database: str = ""


async def read_startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Startup:
    """The first packet after those that ask for encryption, which is refused: the connection has it already."""
    while True:
        header = await reader.readexactly(8)
        size, code = struct.unpack("!ii", header)
        if not len(header) <= size <= LONGEST_STARTUP:
            raise ProtocolError(f"a startup packet of {size} bytes")
        packet = header + await reader.readexactly(size - len(header))
        if code == CANCEL_REQUEST:
            return Startup(packet, cancel=True)
        if code not in (SSL_REQUEST, GSSENC_REQUEST):
            words = packet[8:].decode(errors="replace").split("\0")
            options = dict(zip(words[::2], words[1::2], strict=False))
            user = options.get("user", "")
            return Startup(packet, cancel=False, user=user, database=options.get("database") or user)
        writer.write(b"N")


def fatal(sqlstate: str, message: str) -> bytes:
    """PostgreSQL's ErrorResponse that ends a connection."""
    fields = "".join(f"{field}\0" for field in ("SFATAL", "VFATAL", f"C{sqlstate}", f"M{message}")).encode()
    return b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"
