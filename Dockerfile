# Two images from one file:
#   docker build --target api    -t apex-api .      (no torch; small)
#   docker build --target worker -t apex-worker .   (CUDA torch; runs on a CPU too)
# Pin the base by digest: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/venv/bin:$PATH
# One user for both images: they share the audio volume.
RUN groupadd --gid 10001 apex \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin apex \
 && install --directory --owner=10001 --group=10001 --mode=0700 /data /engines \
 && install --directory --owner=10001 --group=10001 --mode=0755 /weights

# What is installed is installed before the code is copied: a change of code rebuilds one small layer.
FROM base AS build
WORKDIR /src
RUN python -m venv /venv
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir app worker model && touch app/__init__.py worker/__init__.py model/__init__.py

FROM build AS build-api
RUN pip install --no-cache-dir --constraint constraints.txt .
COPY app ./app
COPY worker ./worker
COPY model ./model
RUN pip install --no-cache-dir --no-deps --force-reinstall .

FROM build AS build-worker
RUN pip install --no-cache-dir --constraint constraints.txt '.[worker,gpu]'
COPY app ./app
COPY worker ./worker
COPY model ./model
RUN pip install --no-cache-dir --no-deps --force-reinstall .

FROM base AS api
COPY --from=build-api /venv /venv
WORKDIR /data
USER 10001:10001
ENV APEX_DATA_DIR=/data \
    APEX_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
CMD ["apex", "api"]

FROM base AS worker
COPY --from=build-worker /venv /venv
WORKDIR /data
USER 10001:10001
# The service never calls out by itself: weights are fetched with `apex weights pull`, never at run time.
ENV APEX_DATA_DIR=/data \
    APEX_WEIGHTS_DIR=/weights/published \
    APEX_CACHE_DIR=/engines \
    HF_HUB_OFFLINE=1
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-m", "worker.health"]
CMD ["apex", "worker"]
