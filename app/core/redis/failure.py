"""What went wrong with Redis, told so that an operator knows where to look. No text here shows a secret."""

import socket
import ssl
from collections.abc import Callable, Iterator

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    InvalidResponse,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.sentinel import MasterNotFoundError

from app.core.redis.connections import NoMaster

SILENT = "Redis does not answer."
CLOSED = "Redis closes the connection; where that lasts, it may be that it asks for TLS."
NEEDED = "Redis 7.2 or later, or Valkey, is needed"
#: What is said of Redis while it takes no writes, by the first word of its refusal. Our scripts say the last one.
WRITE_REFUSALS = {
    "OOM": "Redis takes no writes: its memory is full.",
    "READONLY": "Redis takes no writes: it is a read-only replica.",
    "MASTERDOWN": "Redis takes no writes: it is a replica that has lost its master.",
    "NOREPLICAS": "Redis takes no writes: too few of its replicas answer it (min-replicas-to-write).",
    "MISCONF": "Redis takes no writes: it cannot write to its disk.",
    "OUTDATED": f"The server is too old: {NEEDED}.",
}
NO_WRITES = "Redis takes no writes."
CLUSTER = (
    "This is a Redis Cluster, which is not supported, because the keys of a job must be on one server: "
    "run a master with replicas, and Sentinels or a service that fails over."
)
#: Errors of a connection that never came about.
NEVER_CONNECTED = (ConnectionRefusedError, FileNotFoundError, PermissionError, socket.gaierror)
#: What Redis says where it does not have the database of the URL, by what its refusal begins with.
NO_DATABASE = {
    "DB index": "Redis has no database with the number in its URL.",
    "invalid DB index": "Redis has no database with the number in its URL.",
    "SELECT is not allowed in cluster mode": CLUSTER,
}


def explained(error: RedisError) -> str:
    """A sentence about the cause of an error."""
    for cause in _causes(error):
        for kind, sentence in CAUSES:
            if isinstance(cause, kind):
                return sentence(cause)
    return SILENT


def brief(error: BaseException) -> str:
    """The text of an error for the log, without what redis-py adds about its own objects."""
    return f"{type(error).__name__}: {str(error).partition(' : <')[0]}"


def no_database(error: BaseException) -> str | None:
    """A sentence about a server without the database of the URL, which no waiting mends; None for another error."""
    said = str(error).removeprefix("ERR ")
    return next((sentence for refused, sentence in NO_DATABASE.items() if said.startswith(refused)), None)


def never_connected(error: BaseException) -> bool:
    """Whether no connection came about, so that nothing was sent. For a client that does not retry."""
    return isinstance(next(_causes(error)), NEVER_CONNECTED)


def refusal(error: BaseException) -> str:
    """A sentence about the refusal of a write."""
    if sentence := no_database(error):
        return sentence
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    return WRITE_REFUSALS.get("OOM" if isinstance(error, OutOfMemoryError) else code, NO_WRITES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error that came first, and what it led to."""
    before = error.__cause__ or error.__context__
    if before is not None and not isinstance(before, NoScriptError):  # after which the script is sent
        yield from _causes(before)
    yield error


def _authentication(error: BaseException) -> str:
    if getattr(error, "status_code", None) == "NOAUTH" or "without any password" in str(error):
        return "Redis asks for a password, and its URL has none."
    return "Redis refuses the user or the password of its URL."


def _tls(error: BaseException) -> str:
    reason = str(getattr(error, "reason", None) or "").replace("_", " ").lower()
    if "certificate required" in reason or isinstance(error, ssl.SSLEOFError):
        return "TLS with Redis failed: it may ask for a client certificate, ssl_certfile and ssl_keyfile in its URL."
    return f"TLS with Redis failed: {reason or 'no reason was given'}."


def _timeout(error: BaseException) -> str:
    return "TLS with Redis failed: its port answers no handshake." if "handshake" in str(error) else SILENT


def _connection(error: BaseException) -> str:
    return CLOSED if "closed by server" in str(error) else SILENT


def _untrusted(error: BaseException) -> str:
    why = getattr(error, "verify_message", "")
    return f"TLS with Redis failed: its certificate is not accepted ({why}); see ssl_ca_certs in its URL."


#: The more special come first.
CAUSES: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], Callable[[BaseException], str]], ...] = (
    (ssl.SSLCertVerificationError, _untrusted),
    (ssl.SSLError, _tls),
    (TimeoutError, _timeout),
    (socket.gaierror, lambda _: "The name of Redis's host cannot be resolved."),
    (ConnectionRefusedError, lambda _: "Nothing listens at Redis's address."),
    ((ConnectionResetError, BrokenPipeError), lambda _: CLOSED),
    (FileNotFoundError, lambda _: "There is no socket at Redis's path."),
    (PermissionError, lambda _: "This user may not use Redis's socket."),
    (AuthenticationError, _authentication),
    (NoPermissionError, lambda _: "Redis refuses its user a command or a key that this service uses."),
    (BusyLoadingError, lambda _: "Redis is reading its data back."),
    (MasterNotFoundError, lambda _: "No Sentinel answers with a master of that name that is up."),
    (InvalidResponse, lambda _: "What answers at Redis's address is no Redis, or asks for TLS."),
    (NoMaster, refusal),
    (ResponseError, refusal),
    (ConnectionError, _connection),
)
