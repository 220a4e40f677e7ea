"""Forms that no browser sends: too many parts, too long headers, no end, and good forms with bytes changed."""

from collections.abc import Callable
from random import Random

from tests.app.api.asgi import BOUNDARY, form, part
from tests.app.api.uploads.test_multipart_abuse import BOUNDARIES, FILE_NAMES, REFUSED, named
from tests.attack.phase import Attack
from tests.attack.target import Target
from tests.chaos.scripted import Script
from tests.fuzz.mutations import mutated

ATTACKERS = 6
MEDIA_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"
PATHS = ("/score", "/batches")


def multipart_abuse(attack: Attack) -> None:
    attack.crowd(ATTACKERS, lambda one: [act(one.target, one.dice) for act in one.each(ACTS)])


def send(target: Target, dice: Random, body: bytes, media_type: str = MEDIA_TYPE) -> None:
    head = target.head(f"POST {dice.choice(PATHS)}", f"Content-Type: {media_type}", f"Content-Length: {len(body)}")
    target.exchange(head + body, timeout_s=2.0)


def refused_form(target: Target, dice: Random) -> None:
    send(target, dice, dice.choice(list(REFUSED.values()))())


def strange_name(target: Target, dice: Random) -> None:
    send(target, dice, named(f'name="file"; {dice.choice(list(FILE_NAMES.values()))}'))


def strange_boundary(target: Target, dice: Random) -> None:
    send(target, dice, good_form(dice), f"multipart/form-data; {dice.choice(BOUNDARIES)}")


def mutated_form(target: Target, dice: Random) -> None:
    send(target, dice, mutated(good_form(dice), good_form(dice), dice))


def cut_form(target: Target, dice: Random) -> None:
    body = good_form(dice)
    head = target.head("POST /batches", f"Content-Type: {MEDIA_TYPE}", f"Content-Length: {len(body)}")
    target.exchange(head + body[: dice.randrange(len(body))], closes=True)


def full_batch(target: Target, dice: Random) -> None:
    """As many files as one may have, and one more, of which most are nothing."""
    names = dice.choice([("files",) * 20, ("files",) * 21, ("file", "files"), ("files", "metadata", "files")])
    send(target, dice, form(*[part(name, dice.randbytes(dice.randrange(500)), filename="a") for name in names]))


def good_form(dice: Random) -> bytes:
    track = Script(f"form-{dice.random()}").track()
    return form(part("file", track, filename="track.wav"), part("external_id", b"one"))


ACTS: dict[str, Callable[[Target, Random], None]] = {
    "a form that must be refused": refused_form,
    "a strange file name": strange_name,
    "a strange boundary": strange_boundary,
    "a mutated form": mutated_form,
    "a form that is cut": cut_form,
    "a batch of nothing": full_batch,
}
