"""Running what a service consists of: Redis, an S3 server, the front end, and all of it together."""
