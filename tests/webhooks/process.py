"""`python -m tests.webhooks.process`: a dispatcher in a hurry, so that a run takes minutes. No setting leads here."""

import sys

from app.egress.process import Pace, main

COMMAND = (sys.executable, "-m", "tests.webhooks.process")
#: An event is not given up: how long receivers are away is random.
HURRIED = Pace(schedule_s=(0.0, *[1.0] * 100), lease_s=3.0)

if __name__ == "__main__":
    main(HURRIED)
