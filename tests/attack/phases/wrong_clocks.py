"""One kind of process at a time with a clock that is hours or a day off, and then right again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from tests.attack import clocks
from tests.attack.phase import Attack
from tests.attack.phases.refused_forks import kill
from tests.attack.target import ATTACKERS, NO_ANSWER
from tests.chaos.scripted import Script

WRONG_S = (3.0, 15.0)
RIGHT_S = (2.0, 6.0)
TENANT = ATTACKERS[3]
#: Redis deletes what has expired by its own clock: it is off by less than any lifetime of what is looked for.
OFFSETS_H = {"api": (-24, 24, -1, 1), "worker": (-24, 24, -1, 1), "redis": (-12, 12)}


def wrong_clocks(attack: Attack) -> None:
    attack.inflict(CLOCKS, for_s=WRONG_S, rest_s=RIGHT_S)


def lacks_faketime() -> str:
    return "" if clocks.can_be_wrong() else "Debian's package faketime"


def off(kind: str, offset_h: int) -> Callable[[Attack], AbstractContextManager[None]]:
    """The clock of a kind of process off by so much, and a worker that dies while it is."""

    @contextmanager
    def of(attack: Attack) -> Iterator[None]:
        assert attack.target.clocks, "the service was started with the machine's clocks"
        with attack.target.clocks.wrong(kind, offset_h * 3600), attack.target.client(TENANT) as client:
            attack.wait(2 * clocks.CACHED_S)
            script = Script(f"clock-{attack.dice.random()}", run_s=0.5)
            job_id = attack.target.submit(client, script, **{"Cancel-After": "1h"})
            if attack.dice.random() < 0.3:
                kill(attack, "worker")
            yield
            with suppress(*NO_ANSWER):
                if job_id and client.get(f"/jobs/{job_id}").json().get("status") == "canceled":
                    attack.acts.found(f"a job with an hour left was canceled, {kind} {offset_h:+d} h")

    return of


CLOCKS: dict[str, Callable[[Attack], AbstractContextManager[None]]] = {
    f"{kind} {offset_h:+d} h": off(kind, offset_h) for kind, offsets in OFFSETS_H.items() for offset_h in offsets
}
