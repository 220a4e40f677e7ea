"""Environments of the processes that tests start."""

import os


def unmeasured() -> dict[str, str]:
    """This process's environment, for processes whose coverage is not measured.

    Measuring makes a process half as slow again, and other tests reach the same code.
    """
    return {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}
