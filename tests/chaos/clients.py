"""HTTP clients that never give up: they send each track until it is accepted, and read each job until it is over."""

import random
import threading
import time
from collections.abc import Container, Iterable
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.chaos.history import History
from tests.chaos.scripted import Script

#: Longer than the service needs to come back from anything.
GIVE_UP_S = 180.0
#: 200: the job is over by the time when the answer, which was lost before, is given again.
ACCEPTED = (200, 202)


class CannotReach(Exception):
    """The service did not answer as it should for minutes."""


def http_client(url: str, *, key: str | None = None) -> httpx.Client:
    """What all clients of a run share."""
    limits = httpx.Limits(max_connections=64)
    return httpx.Client(base_url=url, timeout=httpx.Timeout(10.0), limits=limits, headers=authorization(key))


def authorization(key: str | None) -> dict[str, str]:
    """The header that presents a key, if there is one."""
    return {"Authorization": f"Bearer {key}"} if key else {}


class Clients:
    """Senders and readers of one service."""

    def __init__(self, http: httpx.Client, history: History, *, give_up_s: float = GIVE_UP_S) -> None:
        self.history = history
        self.http = http
        self.give_up_s = give_up_s
        self.refusals = 0

    def send_all(self, scripts: Iterable[Script], *, n_clients: int) -> None:
        with ThreadPoolExecutor(n_clients) as pool:
            list(pool.map(self.send, scripts))

    def send(self, script: Script) -> None:
        """Send a track under one idempotency key until it is accepted, and again now and then after that."""
        self.history.sent(script)
        for _ in range(2 if script.name.endswith("0") else 1):
            job = self.insist("POST", "/score", ACCEPTED, script)
            self.history.acked(script, job.json()["id"])

    def read(self, job_id: str) -> bool:
        """Read a job once; whether it is over."""
        answer = self.insist("GET", f"/jobs/{job_id}")
        done = bool(answer.json()["done"])
        if done:
            self.history.ended(job_id, answer.content)
        return done

    def read_until(self, stop: threading.Event, *, seed: int, every_s: float = 0.05) -> None:
        """Read jobs that wait, and some that are over, until told to stop."""
        dice = random.Random(seed)
        while not stop.wait(every_s):
            pool = sorted(self.history.waiting() or self.history.job_ids())
            if dice.random() < 0.3:
                pool = sorted(self.history.endings) or pool
            if pool:
                self.read(dice.choice(pool))

    def insist(
        self, method: str, path: str, statuses: Container[int] = (200,), script: Script | None = None
    ) -> httpx.Response:
        """The answer once it has one of the statuses."""
        deadline = time.monotonic() + self.give_up_s
        while True:
            answer = self._try(method, path, script)
            if answer is not None and answer.status_code in statuses:
                return answer
            if time.monotonic() > deadline:
                raise CannotReach(f"{method} {path}: {answer.text if answer else 'no answer'}")
            self.refusals += 1
            time.sleep(0.2)

    def _try(self, method: str, path: str, script: Script | None) -> httpx.Response | None:
        options = {} if script is None else self._upload(script)
        try:
            return self.http.request(method, path, **options)  # type: ignore[arg-type]
        except httpx.TransportError:
            return None

    def _upload(self, script: Script) -> dict[str, object]:
        headers = {"Content-Type": "audio/wav", "Idempotency-Key": script.name}
        return {"content": script.track(), "params": {"external_id": script.name}, "headers": headers}
