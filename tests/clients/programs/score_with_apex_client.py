"""Score a track with clients/python, blocking and awaited, and print the job: `score_with_apex_client.py URL FILE`."""

import asyncio
import csv
import json
import sys

from apex_client import ApexClient, AsyncApexClient

url, path = sys.argv[1:]


async def again() -> float | None:
    async with AsyncApexClient(url) as apex:
        job = await apex.score_and_wait(path, segments=True, embedding=True)
        embedding = await apex.embedding(job["id"])
        assert [event.name async for event in apex.events(job["id"])][-1] == "job.succeeded"
        assert job["id"] in [each["id"] async for each in apex.results(status="succeeded")]
        await apex.delete(job["id"])
        return embedding["values"][0]


with ApexClient(url) as apex:
    job = apex.score_and_wait(path, external_id="python", metadata={"album": "x"}, timeout_s=60)
    assert job["result"] is not None
    streams: float | None = job["result"]["scores"].get("score_streams")
    low, high = job["result"]["ranges"].get("score_streams", [])
    assert job["id"] in [listed["id"] for listed in apex.jobs(external_id="python")]
    batch = apex.wait_for_batch(apex.create_batch([path], batch_external_id="album")["id"])
    assert [item["index"] for item in apex.batch_items(batch["id"])] == [0]
    assert batch["id"] in [listed["id"] for listed in apex.batches(batch_external_id="album", done=True)]
    assert apex.cancel_batch(batch["id"])["done"]
    assert apex.usage(days=1)["days"]
    assert [event.name for event in apex.events(job["id"])] == ["job.snapshot", "job.succeeded"]
    assert [event.name for event in apex.batch_events(batch["id"])] == ["batch.snapshot", "batch.completed"]
    assert [each["id"] for each in apex.results(external_id="python")] == [job["id"]]
    assert [item["index"] for item in apex.batch_results(batch["id"])] == [0]
    assert [row["external_id"] for row in csv.DictReader(apex.results_csv(external_id="python"))] == ["python"]
    assert [row["index"] for row in csv.DictReader(apex.batch_results_csv(batch["id"]))] == ["0"]
    assert apex.deliveries(job["id"]) == apex.batch_deliveries(batch["id"]) == []
found = {"named": [streams, low, high], "counts": batch["counts"], "first": asyncio.run(again())}
json.dump({**job, **found}, sys.stdout)
