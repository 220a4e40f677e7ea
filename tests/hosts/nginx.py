"""nginx before several front ends: the sample of `deploy/`, changed as docs/operations.md says for several hosts."""

from collections.abc import Sequence
from pathlib import Path

from tests.deploy.test_nginx import AROUND, SAMPLE, nginx
from tests.hosts.network import Program

ROOT_PATH = "/apex"
#: What replaces which line of the sample.
CHANGES = {
    "    server 127.0.0.1:8000;": "    server {address}:8000 fail_timeout=2s;",
    "        proxy_next_upstream off;": "        proxy_next_upstream error timeout;\n        proxy_connect_timeout 1s;",
}


def program(folder: Path, addresses: Sequence[str]) -> Program:
    """nginx with its files in a folder, before the front ends of these addresses."""
    folder.mkdir(parents=True)
    sample = SAMPLE
    for line, change in CHANGES.items():
        assert line in sample
        lines = dict.fromkeys(change.format(address=address) for address in addresses)
        sample = sample.replace(line, "\n".join(lines))
    (folder / "sample.conf").write_text(sample)
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder))
    return Program(nginx(folder))
