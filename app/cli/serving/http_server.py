"""The HTTP front end, served by uvicorn, in this process or in several below it."""

import gc
import logging
import resource
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from fastapi import FastAPI

from app.api.auth.api_keys import ApiKeysError
from app.api.server.connections import TIMEOUTS_S, ConnectionLimits, Phase
from app.api.server.server import Server
from app.api.uploads.multipart import BATCH_FORM
from app.cli.serving.front_end import EXIT_NOT_STARTED, Inherited, listen, port_of, supervise
from app.core.logging import configure_logging
from app.core.misconfiguration import Misconfigured
from app.core.redis.server import check_at_start
from app.core.settings import MIB, ApiSettings, load_settings
from app.core.signals import hurry_signals, ignore_hangup
from app.core.storage.room import Reservations
from app.main import create_app

log = logging.getLogger(__name__)

#: Time for a request beside that of its upload and of its wait, and bytes for a body beside those of its files.
ANSWER_SLACK_S = 60
BODY_SLACK_BYTES = MIB
#: Files that are open for other reasons, most of them connections to Redis; and a connection with its upload's file.
#: With these, 2000 connections fit into 4096, which is all that many a system allows.
OTHER_DESCRIPTORS = 96
DESCRIPTORS_PER_CONNECTION = 2
MIN_CONNECTIONS = 16


def serve(inherited: str | None = None) -> None:
    """Serve with the settings of the environment until SIGTERM or Ctrl-C.

    In one process or several; `inherited` is what one of several has from their supervisor.
    """
    settings = load_settings(ApiSettings)
    configure_logging(settings.log_level, settings.log_format)
    ignore_hangup()
    if inherited:
        shared = Inherited.parse(inherited)
        serve_here(settings, shared.sockets(), shared.reservations())
    elif settings.api_processes > 1:
        supervise(settings)
    else:
        serve_here(settings, listen(settings.host, settings.port))


def serve_here(
    settings: ApiSettings, listeners: Sequence[socket.socket], reservations: Reservations | None = None
) -> None:
    """Serve in this process."""
    settings = make_room(settings)
    try:
        app = create_app(settings, reservations=reservations)
    except ApiKeysError as error:
        raise Misconfigured(str(error)) from error
    check_at_start(settings.redis_url)
    app.state.services.deployment.require()
    server = _server(app, settings)
    tune_gc()
    log.info("serving at port %d of %s", port_of(listeners), settings.host)
    with suppress(KeyboardInterrupt):
        server.run(sockets=list(listeners))
    if not server.started:
        sys.exit(EXIT_NOT_STARTED)


def tune_gc() -> None:
    """Exempt the application's objects from garbage collection, and collect a tenth as often.

    Collection took an eighth of the processor time of a small upload. The thresholds of older objects count
    collections of younger ones, so that they stay: tenfold as well, garbage would be kept a thousand times as long.
    """
    gc.collect()
    gc.freeze()
    young, *older = gc.get_threshold()
    gc.set_threshold(10 * young, *older)


def _server(app: FastAPI, settings: ApiSettings) -> Server:
    return Server(
        app,
        connection_limits(settings),
        lame_duck_s=settings.lame_duck_s,
        drain_timeout_s=settings.drain_timeout_s,
        hurry_signals=hurry_signals(),
    )


def connection_limits(settings: ApiSettings) -> ConnectionLimits:
    """What clients may take of this process."""
    answer_s = settings.upload_timeout_s + settings.max_wait_s + ANSWER_SLACK_S
    return ConnectionLimits(
        max_connections=settings.max_connections,
        max_body_bytes=BATCH_FORM.max_files * settings.max_upload_bytes + BODY_SLACK_BYTES,
        timeouts_s={**TIMEOUTS_S, Phase.ANSWER: answer_s},
    )


def make_room(settings: ApiSettings) -> ApiSettings:
    """Raise this process's limit of open files as far as the connections need it and may be.

    Where it may not, returns settings with fewer connections, and with waiting requests for at most half of them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = OTHER_DESCRIPTORS + DESCRIPTORS_PER_CONNECTION * settings.max_connections
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    room = max((allowed - OTHER_DESCRIPTORS) // DESCRIPTORS_PER_CONNECTION, MIN_CONNECTIONS)
    n_connections = min(settings.max_connections, room)
    if n_connections < settings.max_connections:
        log.warning("only %d connections: the limit of open files is %d", n_connections, allowed)
    n_listeners = min(settings.max_listeners, max(n_connections // 2, 1))
    return settings.model_copy(update={"max_connections": n_connections, "max_listeners": n_listeners})
