"""Checks the port that `secateur up` will use."""

import errno
import socket

import psutil

from api_schemas.api.checkup import Finding, ok, wrong

HOST = "127.0.0.1"


def port(number: int) -> list[Finding]:
    """Free, or who has it, where this user may know."""
    with socket.socket() as probe:
        # As the server will: a port that only waits for old connections to expire is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, number))
        except OSError as error:
            remedy = f"Stop that program, or use another port: secateur up --port {number % 65535 + 1}, or 0."
            who = _holder(number) if error.errno == errno.EADDRINUSE else error.strerror
            return [wrong("port", f"{number} is not available: {who}", remedy)]
    return [ok("port", f"{number} is free")]


def _holder(number: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == number and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid}) uses it"
    except psutil.Error:
        pass
    return "a program of another user uses it"
