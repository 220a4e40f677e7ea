"""Tenants that want each other's jobs, or all of the service: its queue, its listeners, its lists."""

from collections.abc import Callable
from contextlib import ExitStack, suppress

import httpx

from tests.app.api.asgi import FORM, form, part
from tests.attack.phase import Attack
from tests.attack.target import ATTACKERS, NO_ANSWER
from tests.chaos.scripted import Script

#: Of one tenant in one go. What does not fit is refused.
BURST = 60
LISTENERS = 200
LONG_RUN_S = 10.0
READERS = 4
#: The first floods, the others look around.
HEAVY, *OTHERS = ATTACKERS
LET_IN = "another tenant's job was shown or changed"


def many_tenants(attack: Attack) -> None:
    attack.crowd(READERS, lambda one: [act(one) for act in one.each(ACTS)])
    with attack.target.client(HEAVY) as client, suppress(*NO_ANSWER):
        cancel_all(client)


def burst(attack: Attack) -> None:
    """Many tracks of one tenant, one after the other."""
    with attack.target.client(HEAVY) as client:
        for _ in range(BURST):
            attack.target.submit(client, Script(f"burst-{attack.dice.random()}"))
            if not attack.goes_on():
                return


def batches(attack: Attack) -> None:
    tracks = [Script(f"batch-{attack.dice.random()}").track() for _ in range(20)]
    body = form(*[part("files", track, filename="a.wav") for track in tracks])
    with attack.target.client(HEAVY) as client, suppress(*NO_ANSWER):
        key = {"Idempotency-Key": f"batch-{attack.dice.random()}"}
        for _ in range(2):
            client.post("/batches", content=body, headers=FORM | key)


def trespass(attack: Attack) -> None:
    """Everything that can be asked of a job, asked of somebody else's."""
    victims = sorted(attack.victims())
    if not victims:
        return
    job_id = attack.dice.choice(victims)
    with attack.target.client(attack.dice.choice(OTHERS)) as client, suppress(*NO_ANSWER):
        for method, path in TRESPASSES:
            if client.request(method, path.format(job_id)).status_code < 400:
                attack.acts.found(f"{LET_IN}: {method} {path}")


TRESPASSES = (
    ("GET", "/jobs/{}"),
    ("GET", "/jobs/{}?wait=1"),
    ("GET", "/jobs/{}/events"),
    ("POST", "/jobs/{}/cancel"),
    ("DELETE", "/jobs/{}"),
    ("GET", "/batches/{}"),
    ("GET", "//jobs/{}"),
    ("GET", "/jobs/{}%00"),
)


def wrong_keys(attack: Attack) -> None:
    key = attack.target.keys[OTHERS[0]]
    for wrong in ("", "x", key[:-1], key + "x", key.upper(), "\xff" * 10, "a" * 60_000):
        with suppress(*NO_ANSWER):
            answer = httpx.get(
                f"{attack.target.url}/jobs", headers={b"X-API-Key": wrong.encode("latin-1")}, timeout=5.0
            )
            if answer.status_code < 400:
                attack.acts.found("a wrong key was taken")


def listeners(attack: Attack) -> None:
    """One tenant follows a job of its own as often as it can."""
    with ExitStack() as stack, attack.target.client(HEAVY) as client, suppress(*NO_ANSWER):
        script = Script(f"listened-{attack.dice.random()}", run_s=LONG_RUN_S, n_segments=50)
        if job_id := attack.target.submit(client, script):
            ask = attack.target.head(f"GET /jobs/{job_id}/events", tenant=HEAVY)
            for _ in range(LISTENERS):
                stack.enter_context(attack.target.connect()).sendall(ask)
            attack.wait(1.0)
            client.post(f"/jobs/{job_id}/cancel")


def lists(attack: Attack) -> None:
    with attack.target.client(attack.dice.choice(ATTACKERS)) as client, suppress(*NO_ANSWER):
        for query in ("limit=200", "limit=200&status=succeeded", "cursor=" + "a" * 500, "limit=-1", "status=flying"):
            client.get(f"/jobs?{query}")


def one_key_for_all(attack: Attack) -> None:
    """The same idempotency key by every tenant, each with a track of its own."""
    seen = set()
    for tenant in ATTACKERS:
        with attack.target.client(tenant) as client:
            script = Script(f"shared-{attack.dice.random()}")
            job_id = attack.target.submit(client, script, **{"Idempotency-Key": f"shared-{attack.ends_at}"})
            if job_id and job_id in seen:
                attack.acts.found("two tenants share a job")
            seen.add(job_id)


def cancel_all(client: httpx.Client) -> None:
    """Cancel what one tenant has left in the queue."""
    for status in ("queued", "running"):
        while jobs := client.get(f"/jobs?limit=100&status={status}").json().get("items"):
            for job in jobs:
                client.post(f"/jobs/{job['id']}/cancel")
            if status == "running":
                return


ACTS: dict[str, Callable[[Attack], None]] = {
    "a burst of tracks": burst,
    "batches, each sent twice": batches,
    "somebody else's job": trespass,
    "wrong keys": wrong_keys,
    "listeners": listeners,
    "lists": lists,
    "one idempotency key for all": one_key_for_all,
}
