#!/bin/sh
# Fills the hashes of the two passwords into the access list, and becomes the server.
set -eu
umask 077

sha256() {
    printf %s "$1" | sha256sum | cut -d' ' -f1
}

sed -e "s/{APEX_REDIS_API_SHA256}/$(sha256 "$APEX_REDIS_API_PASSWORD")/" \
    -e "s/{APEX_REDIS_WORKER_SHA256}/$(sha256 "$APEX_REDIS_WORKER_PASSWORD")/" \
    /etc/apex/redis.acl > /tmp/redis.acl

# Every command is on disk before it is answered: that is what makes a 202 true.
exec redis-server --aclfile /tmp/redis.acl \
    --appendonly yes --appendfsync always --save '' --maxmemory-policy noeviction "$@"
