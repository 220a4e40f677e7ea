"""What the service asks of its audio storage, wherever that is."""

from collections.abc import Iterator
from typing import BinaryIO, Protocol

from app.core.storage.partial_upload import PartialUpload


class Storage(Protocol):
    """Keeps complete uploads under keys. What is under a key is durable, and never written again.

    Every method blocks. An error of the storage is an `OSError`; where a client waits, a `Problem`.
    """

    @property
    def sweep_every_s(self) -> float:
        """How long to wait between two looks for orphans."""

    def receive(self, job_id: str) -> PartialUpload:
        """An upload for a job, whose `key` is where its bytes will be once it is committed.

        Use it in a `with` block, or call its `discard` in the end.
        """

    def open(self, key: str) -> BinaryIO:
        """The bytes of a key; `FileNotFoundError` when they are gone."""

    def delete(self, key: str) -> None:
        """Delete a key's bytes; missing ones are no error. What cannot be deleted now is left to the reconciler."""

    def orphans(self, *, older_than_s: float) -> Iterator[str]:
        """Keys that were last written longer ago than this, and unfinished uploads that no process receives.

        The caller finds out whether a job still needs one, and deletes it.
        """

    def free_bytes(self) -> float:
        """Bytes that there is room for; infinite where nobody counts them."""

    def check_readable(self) -> None:
        """Raise the `OSError` that reading any key would meet now."""

    def check_writable(self) -> None:
        """Raise the `Problem` that an upload would meet now."""

    def check_deletable(self) -> None:
        """Raise the `OSError` that deleting what others wrote would meet."""

    def has(self, key: str) -> bool:
        """Whether there are bytes under a key."""

    def marker(self) -> str | None:
        """The id of the deployment whose storage this is; None while it is nobody's."""

    def create_marker(self, deployment_id: str) -> str:
        """Make this the storage of a deployment, durably, unless it is one's already; the id of that one."""
