#!/usr/bin/env bash
# All that must be measured on a CUDA device, in one run of at most eight minutes and without a network:
#   benchmarks/gpu.sh OUT [--rehearse] [--only PART]...
# Takes packages that benchmarks/carry.sh has fetched from the folder WHEELS, .wheels by default, and all else from the
# Python that PYTHON names.
# OUT/campaign.md and OUT/campaign.json are whole after every row, whatever ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
wheels=${WHEELS:-.wheels}

packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
if compgen -G "$wheels/*.whl" > /dev/null; then
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$packages" "$wheels"/*.whl
fi
# The API asks for the version of the project, which is not installed here.
about=$packages/apex_scoring-0.dist-info
mkdir "$about"
printf 'Metadata-Version: 2.1\nName: apex-scoring\nVersion: 0\n' > "$about/METADATA"

export PYTHONPATH=$PWD:$packages HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=PASSIVE
"$python" -m benchmarks.gpu "$@"
