"""Ways to break a file. Each is driven by a random generator alone, so that a seed gives the same file again."""

from collections.abc import Callable
from random import Random

MAX_EDITS = 6
MAX_BLOCK_BYTES = 512
_WIDTHS_BYTES = (1, 2, 3, 4, 8)
#: Numbers at which arithmetic on sizes goes wrong.
_MAGIC = (0, 1, 2, 7, 8, 0x10, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, -1, -2, -8)

Mutation = Callable[[bytearray, bytes, Random], None]


def mutated(data: bytes, donor: bytes, rng: Random) -> bytes:
    """The file after a few random edits, most of them near its front, where there is most to break."""
    edited = bytearray(data)
    for _ in range(rng.randint(1, MAX_EDITS)):
        rng.choice(MUTATIONS)(edited, donor, rng)
    return bytes(edited)


def _place(data: bytes | bytearray, rng: Random) -> int:
    return int(rng.random() ** 2 * len(data))


def _block(data: bytes | bytearray, rng: Random) -> slice:
    start = _place(data, rng)
    return slice(start, start + rng.randint(1, MAX_BLOCK_BYTES))


def _flip_bit(data: bytearray, _: bytes, rng: Random) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _set_byte(data: bytearray, _: bytes, rng: Random) -> None:
    if data:
        data[_place(data, rng)] = rng.randrange(256)


def _set_magic_integer(data: bytearray, _: bytes, rng: Random) -> None:
    at, width = _place(data, rng), rng.choice(_WIDTHS_BYTES)
    number = rng.choice(_MAGIC) % (1 << 8 * width)
    data[at : at + width] = number.to_bytes(width, rng.choice(("big", "little")))


def _delete(data: bytearray, _: bytes, rng: Random) -> None:
    del data[_block(data, rng)]


def _insert(data: bytearray, _: bytes, rng: Random) -> None:
    at = _place(data, rng)
    data[at:at] = rng.randbytes(rng.randint(1, 64))


def _duplicate(data: bytearray, _: bytes, rng: Random) -> None:
    block = _block(data, rng)
    data[block.stop : block.stop] = data[block] * rng.randint(1, 3)


def _truncate(data: bytearray, _: bytes, rng: Random) -> None:
    del data[round(rng.random() * len(data)) :]


def _splice(data: bytearray, donor: bytes, rng: Random) -> None:
    """Goes on as another file does, from any place to any place."""
    if rng.random() < 0.5:
        data[_block(data, rng)] = donor[_block(donor, rng)]
    else:
        data[_place(data, rng) :] = donor[_place(donor, rng) :]


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bit, _set_byte, _set_magic_integer, _delete, _insert, _duplicate, _truncate, _splice,
)  # fmt: skip
