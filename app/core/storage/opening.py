"""The audio storage that the settings name."""

from collections.abc import Callable

from app.core.misconfiguration import Misconfigured, named_by_settings
from app.core.settings import ServiceSettings
from app.core.storage.folder import FolderStorage
from app.core.storage.protocol import Storage


def open_storage(settings: ServiceSettings, *, scratch_bytes: Callable[[], int] = lambda: 0) -> Storage:
    """The folder, which is created, or the object store, to which nothing is sent yet.

    `scratch_bytes` tells what decoders on the same disk may need at any time. Raises `Misconfigured` for a
    folder that cannot be made, and for a store whose variables are missing or cannot be used.
    """
    location = settings.storage_location
    if location.folder:
        with named_by_settings():
            return FolderStorage(location.folder, scratch_bytes=scratch_bytes)
    # Brings a compiled extension, which a folder does not need.
    from app.core.storage.object_store import ObjectStorage

    try:
        return ObjectStorage(location, timeout_s=settings.storage_timeout_s)
    except OSError as error:
        raise Misconfigured(f"APEX_STORAGE_URL: {error.strerror}") from error
