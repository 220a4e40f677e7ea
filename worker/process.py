"""`python -m worker.process`: one scoring process. The only module that names the worker's real parts."""

import logging
import os
import secrets
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial

from redis import Redis

from app.core.deployment import Deployment
from app.core.jobs.models import Job
from app.core.jobs.opening import open_jobs
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from app.core.logging import configure_logging
from app.core.misconfiguration import EXIT_MISCONFIGURED, ends_if_misconfigured, named_by_settings
from app.core.redis.client import connect
from app.core.settings import WorkerSettings, load_settings
from app.core.signals import INSTANCE_ID_VAR, ignore_hangup
from app.core.storage.opening import open_storage
from app.core.storage.protocol import Storage
from app.core.worker_info import Published, WorkerInfo
from model.audio.decoder import Decoder
from model.domain import ApexError, DeviceLost, DeviceOutOfMemory
from worker.audio_files import AudioFiles, ScratchCopies, StoredFiles
from worker.machine_faults import Pause
from worker.rq.worker import ScoringWorker
from worker.score_track import EXIT_DEVICE_LOST, ScoreTrack, TrackScorer
from worker.watchdog import Watchdog

log = logging.getLogger("worker.process")  # this module is run as __main__

#: Tries of one Redis command: about a minute of outage is waited out in the middle of a job.
REDIS_MAX_RETRIES = 40


def main() -> None:
    """Load and warm the model, then take jobs until told to stop."""
    serve(load_warm_scorer, open_decoder)


def serve(
    load: Callable[[WorkerSettings], TrackScorer], decoding: Callable[[WorkerSettings], AbstractContextManager[Decoder]]
) -> None:
    """Run as one process of a supervisor, with the scorer and the decoder that are handed in."""
    with ends_if_misconfigured():
        settings = load_settings(WorkerSettings)
    configure_logging(settings.log_level, settings.log_format)
    ignore_hangup()
    redis = connect(settings.redis_url, max_retries=REDIS_MAX_RETRIES)
    try:
        with decoding(settings) as decoder:
            run(settings, redis, load(settings), decoder)
    except (DeviceLost, DeviceOutOfMemory) as error:  # the next start may find the device as it should be
        log.critical("cannot start: %s", error)
        sys.exit(EXIT_DEVICE_LOST)
    except ApexError as error:
        log.critical("cannot start: %s", error)
        sys.exit(EXIT_MISCONFIGURED)


def run(settings: WorkerSettings, redis: Redis, scorer: TrackScorer, decoder: Decoder) -> None:
    """Take jobs until told to stop."""
    keys, machine = settings.redis_keys, open_jobs(settings, redis)
    storage = open_storage(settings)
    watchdog = Watchdog(settings.stall_timeout_s)
    deployment = Deployment(redis, keys, storage, wary=True)
    task = ScoreTrack(
        machine=machine,
        queue_status=QueueStatus(redis, keys),
        storage=storage,
        audio=audio_files(settings, storage, machine, watchdog),
        deployment=deployment,
        decoder=decoder,
        scorer=scorer,
        max_attempts=settings.max_attempts,
        lease_s=settings.heartbeat_ttl_s,
        watchdog=watchdog,
        pause=Pause(partial(probe, deployment, storage, decoder), check=deployment.check_if_older),
        worker=os.environ.get(INSTANCE_ID_VAR) or secrets.token_hex(8),
    )
    published = Published(asdict(scorer.card), tuple(decoder.missing_layers))
    worker = ScoringWorker(
        settings.rq_queue_name,
        connection=redis,
        task=task,
        job_timeout_s=settings.job_timeout_s,
        heartbeat_ttl_s=settings.heartbeat_ttl_s,
        grace_s=settings.run_grace_s,
        published=published,
    )
    WorkerInfo(redis, keys).publish(published)
    log.info("ready: %s on %s", scorer.card.version, scorer.card.device)
    log.info("sandbox layers", extra={"applied": decoder.layers, "missing": decoder.missing_layers})
    worker.work(logging_level="WARNING")


def audio_files(settings: WorkerSettings, storage: Storage, machine: JobStateMachine, watchdog: Watchdog) -> AudioFiles:
    """Files of a folder are read where they are, objects are copied."""
    if settings.storage_location.folder:
        return StoredFiles(storage)
    return ScratchCopies(storage, settings.scratch_dir, next_job=partial(next_job, machine), on_progress=watchdog.reset)


def next_job(machine: JobStateMachine) -> Job | None:
    """The job that waits at the head of the queue."""
    job_id = machine.queue.next_id()
    return machine.store.get(job_id) if job_id else None


def probe(deployment: Deployment, storage: Storage, decoder: Decoder) -> None:
    """Raise the OSError that any job would meet now, because of this machine."""
    deployment.check()
    storage.check_readable()
    decoder.check_works()


def load_warm_scorer(settings: WorkerSettings) -> TrackScorer:
    """The scorer of the weights directory, having scored once: the first job is as quick as the others."""
    from model.inference.scorer import Scorer  # brings torch, which a process with another scorer does not need

    scorer = Scorer.load(settings.weights_dir, **settings.engine_options)
    scorer.warm_up()
    return scorer


def open_decoder(settings: WorkerSettings) -> Decoder:
    with named_by_settings():
        settings.scratch_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Decoder.from_settings(settings, scratch_dir=settings.scratch_dir)


if __name__ == "__main__":
    main()
