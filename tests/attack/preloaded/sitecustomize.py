"""For processes under libfaketime 0.9.10, in which `time.sleep` of Python 3.11 and later fails: its issue 426."""

import select
import time
from typing import SupportsIndex


def sleep(seconds: float | SupportsIndex) -> None:
    select.select([], [], [], float(seconds))


time.sleep = sleep
