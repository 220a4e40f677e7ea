"""Upload a track with the generated Python client and print its finished job: `upload.py URL FILE`."""

import json
import sys
import time
from pathlib import Path

from apex_client import Client
from apex_client.api.scoring import get_job, score_track
from apex_client.models import Job, TrackForm
from apex_client.types import File

with Client(base_url=sys.argv[1]) as client, Path(sys.argv[2]).open("rb") as track:
    job = score_track.sync(client=client, body=TrackForm(file=File(track, "track.wav"), external_id="from-python"))
    while isinstance(job, Job) and not job.done:
        time.sleep(0.1)
        job = get_job.sync(id=job.id, client=client)
    sys.stdout.write(json.dumps(job.to_dict()))
