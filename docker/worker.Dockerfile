# The image of the worker: the supervisor, and the engine. Build from the root of the repository:
#   docker build -f docker/worker.Dockerfile -t secateur/worker .                                       torch for CUDA
#   docker build -f docker/worker.Dockerfile -t secateur/worker-cpu --build-arg TORCH=cpu .             torch for the CPU

# `cuda` or `cpu`: the name of a stage below, and of a lock.
ARG TORCH=cuda
# The `base` flavour of the CUDA runtime: torch's wheels bring cuBLAS, cuDNN and NCCL of their own, and the larger flavours
# would only carry them a second time.
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04
ARG CPU_IMAGE=python:3.12-slim-bookworm

FROM ${CUDA_IMAGE} AS cuda
# Ubuntu drops old versions from its archive: a pin would stop building within weeks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM ${CPU_IMAGE} AS cpu

FROM ${TORCH}
ARG TORCH
# Where torch for the CPU is found, beside PyPI; its lock takes none but the wheels of this index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN groupadd --gid 10001 secateur \
    && useradd --uid 10001 --gid secateur --no-create-home --home-dir /var/lib/secateur --shell /usr/sbin/nologin secateur \
    && install -d -o secateur -g secateur -m 0750 /var/lib/secateur /var/lib/secateur/artifacts /scratch

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/secateur
ENV PATH=/opt/secateur/scripts:/opt/secateur/bin:$PATH

# Every version and every file's hash (`make locks`), apart from our own code: gigabytes that a change of it does not download again.
WORKDIR /src
COPY docker/locks/worker-${TORCH}.txt docker/locks/
RUN if [ "$TORCH" = cpu ]; then export PIP_EXTRA_INDEX_URL="$TORCH_INDEX"; fi \
    && pip install --require-hashes --no-deps -r "docker/locks/worker-$TORCH.txt"

COPY pyproject.toml README.md LICENSE ./
COPY api_schemas api_schemas
COPY checkpoints checkpoints
COPY store store
COPY service service
COPY worker worker
COPY secateur secateur
COPY server server
# The last line makes torchaudio importable beside torch for the CPU.
RUN pip install --no-deps --no-build-isolation . ./server \
    && pip check \
    && python -m secateur.doctor.torchaudio
COPY docker/scripts /opt/secateur/scripts

# Nothing is fetched while a model is loaded: what a job needs was fetched by the supervisor.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SECATEUR_DATA_DIR=/var/lib/secateur \
    SECATEUR_SCRATCH_DIR=/scratch \
    SECATEUR_DEVICE=$TORCH \
    HF_HOME=/scratch/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib

USER 10001:10001
WORKDIR /var/lib/secateur
VOLUME ["/var/lib/secateur", "/scratch"]

ENTRYPOINT ["entrypoint.sh"]
CMD ["worker"]
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=4 CMD ["healthcheck.sh", "worker"]
