"""Names of uploads in storage. They come from records too, so each is checked before it is used."""

import re
import secrets

#: What the ids of jobs begin with.
JOB = "job_"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: Stands between a job's id, in which it does not occur, and what makes a key unlike all others.
_SEPARATOR = "-"


def is_key(name: str) -> bool:
    return _KEY.fullmatch(name) is not None


def checked(key: str) -> str:
    """The key; raises `ValueError` for anything that could leave its folder or prefix."""
    if not is_key(key):
        raise ValueError("not a storage key")
    return key


def is_of_a_job(name: str) -> bool:
    """Whether a file or object may be an upload of this service. Others may lie beside it, and are left alone."""
    return is_key(name) and name.startswith(JOB)


def unique_key(job_id: str) -> str:
    """A key for one upload for a job. Nobody else gets it, not even another upload for the same job."""
    return checked(f"{checked(job_id)}{_SEPARATOR}{secrets.token_hex(8)}")


def job_id_of(key: str) -> str:
    """The job that an upload is for."""
    return key.partition(_SEPARATOR)[0]
