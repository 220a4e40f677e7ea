"""`python -m tests.fuzz.valgrind [N]`: the fuzzer's seeds, and N mutated files, decoded under valgrind.

All in one process without the sandbox, whose limits valgrind could not live with. Needs Debian's package `valgrind`.

The fuzzer sees crashes only; valgrind sees a read or a write that is wrong and harms nothing by chance, and memory that
is freed twice. Ends with status 1 when it saw one. Takes minutes: every instruction is interpreted.
"""

import os
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

from model.audio.decode_errors import DecodeRejected
from model.audio.decoder_child import decode_file
from tests.fuzz.campaign import LIMITS, file_of, in_memory, seeds

#: Reports wrong reads, writes and frees. Not leaks, for a child decodes one file; not values that were never set, which
#: FFmpeg's assembler reads by design where it works on whole rows.
OPTIONS = (
    "--error-exitcode=1", "--leak-check=no", "--undef-value-errors=no", "--num-callers=30", "--redzone-size=256",
    f"--suppressions={Path(__file__).with_suffix('.supp')}",
)  # fmt: skip
#: In the environment of the process under valgrind.
INSIDE = "APEX_UNDER_VALGRIND"


def main(n_mutated: int = 0) -> int:
    """Run this module under valgrind; its exit status."""
    # Python's own allocator takes large pieces and deals them out, which valgrind cannot see through.
    environment = os.environ | {INSIDE: str(n_mutated), "PYTHONMALLOC": "malloc", "OMP_NUM_THREADS": "1"}
    command = ["valgrind", *OPTIONS, sys.executable, "-m", "tests.fuzz.valgrind"]
    return subprocess.run(command, env=environment).returncode


def decode_all(n_mutated: int) -> None:
    """Decode every seed, and so many files mutated from them."""
    files = [*seeds(), *(file_of(0, index) for index in range(n_mutated))]
    for number, data in zip(count(1), files):
        print(f"{number}/{len(files)}: {outcome(data)}", file=sys.stderr, flush=True)  # noqa: T201


def outcome(data: bytes) -> str:
    with in_memory(data) as source, tempfile.TemporaryFile() as sink:
        try:
            decoded = decode_file(source, sink, LIMITS)
        except DecodeRejected as rejected:
            return rejected.reason
    return f"{decoded.container} {decoded.codec}, {decoded.channels} channels"


if __name__ == "__main__":
    if INSIDE in os.environ:
        decode_all(int(os.environ[INSIDE]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
