"""Clients that follow jobs, by long polls and by lists."""

import json
import random
import threading

from tests.chaos.clients import Clients, http_client
from tests.chaos.history import History

WAIT_S = 3


class Followers:
    """Clients of one service: `clients` send, and read lists; the others follow by long polls."""

    def __init__(self, url: str) -> None:
        self.history = History()
        self.clients = Clients(http_client(url), self.history)
        polls = http_client(url)
        polls.headers["Prefer"] = f"wait={WAIT_S}"
        self.polling = Clients(polls, self.history)

    @property
    def refusals(self) -> int:
        return self.clients.refusals + self.polling.refusals

    def read_lists_until(self, stop: threading.Event, *, seed: int, every_s: float) -> None:
        """Read lists of jobs that are over, and some of those jobs, which must be over, too."""
        dice = random.Random(seed)
        while not stop.wait(every_s):
            listed = self.clients.insist("GET", "/jobs?status=succeeded&limit=50").json()["items"]
            if listed and not self.clients.read((job := dice.choice(listed))["id"]):
                self.history.flipped.add(job["id"])
                self.history.changes.append((json.dumps(job).encode(), b"not over"))

    def close(self) -> None:
        self.clients.http.close()
        self.polling.http.close()
