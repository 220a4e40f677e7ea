"""TLS in front of a Redis, whose build for tests has none; certificates are made by OpenSSL's command line."""

import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.installed import installed

BLOCK = 65536
NAMES = "subjectAltName=IP:127.0.0.1"


@dataclass
class Certificates:
    """A certificate authority, and what it has signed: `NAME.pem` with `NAME.key`."""

    directory: Path

    def __getitem__(self, file: str) -> Path:
        return self.directory / file

    def options(self, *, client: bool = True) -> str:
        """The query of a Redis URL."""
        certificate = f"&ssl_certfile={self['client.pem']}&ssl_keyfile={self['client.key']}" if client else ""
        return f"ssl_ca_certs={self['ca.pem']}{certificate}"


def make_certificates(directory: Path, *, names: str = NAMES) -> Certificates:
    openssl = installed("openssl")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]

    def run(*arguments: str) -> None:
        subprocess.run([openssl, "req", *arguments], cwd=directory, check=True, capture_output=True)

    run("-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("server", "client"):
        signed = ["-x509", "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", names]
        run(*signed, *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    return Certificates(directory)


@contextmanager
def tls_in_front_of(socket_path: str, certificates: Certificates) -> Iterator[int]:
    """The port of a server that passes on what clients with a certificate say."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates["server.pem"], certificates["server.key"])
    context.load_verify_locations(certificates["ca.pem"])
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, context, socket_path), daemon=True).start()
    with listener:
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, context: ssl.SSLContext, socket_path: str) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, context, socket_path), daemon=True).start()


def _serve(client: socket.socket, context: ssl.SSLContext, socket_path: str) -> None:
    """One thread passes bytes both ways: an SSL connection is not to be used by two."""
    with (
        client,
        suppress(OSError),
        context.wrap_socket(client, server_side=True) as secure,
        socket.socket(socket.AF_UNIX) as redis,
    ):
        redis.connect(socket_path)
        other = {secure: redis, redis: secure}
        while True:
            for source in [secure] if secure.pending() else select.select(list(other), [], [])[0]:
                if not (block := source.recv(BLOCK)):
                    return
                other[source].sendall(block)
