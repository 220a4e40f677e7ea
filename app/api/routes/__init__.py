"""Routes: parse, call, return. The rules live below."""
