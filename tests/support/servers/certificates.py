"""A certificate for one name, signed by itself, and a server that speaks TLS with it before one that does not."""

import asyncio
import datetime
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate_for(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of the certificate and its key, valid for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


@contextmanager
def tls_before(unix_socket: str, certificate: Path, key: Path) -> Iterator[int]:
    """A port of localhost that speaks TLS and hands everything on to a server on a unix socket."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    port, listening, ended = 0, threading.Event(), asyncio.Event()
    loop: asyncio.AbstractEventLoop

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(2**16):
                target.write(data)
                await target.drain()
        finally:
            target.close()

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_unix_connection(unix_socket)
        await asyncio.gather(copy(reader, to_server[1]), copy(to_server[0], writer), return_exceptions=True)

    async def serve() -> None:
        nonlocal port, loop
        loop = asyncio.get_running_loop()
        async with await asyncio.start_server(hand_on, "localhost", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            listening.set()
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert listening.wait(20)
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)
