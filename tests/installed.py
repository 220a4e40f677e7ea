"""Debian's programs that some tests need: where one is missing, they fail under CI and skip elsewhere."""

import os
import shutil

import pytest


def installed(program: str) -> str:
    """Where a program is. `make programs` installs it, as root on Debian."""
    directories = os.pathsep.join((os.environ["PATH"], "/usr/sbin"))
    found = shutil.which(program, path=directories)
    if found:
        return found
    missing = f"{program} is not installed: as root, `make programs` does it"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
