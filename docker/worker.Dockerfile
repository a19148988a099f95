# The image of the worker: the supervisor, and the engine on a GPU with torch and torchaudio of one release.
# Build from the root of the repository: docker build -f docker/worker.Dockerfile -t secateur/worker .

# The `base` flavour of the CUDA runtime: torch's wheels bring cuBLAS, cuDNN and NCCL of their own, and the larger flavours
# would only carry them a second time.
FROM nvidia/cuda:13.0.1-base-ubuntu24.04

# Ubuntu drops old versions from its archive: a pin would stop building within weeks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 secateur \
    && useradd --uid 10001 --gid secateur --no-create-home --home-dir /var/lib/secateur --shell /usr/sbin/nologin secateur \
    && install -d -o secateur -g secateur -m 0750 /var/lib/secateur /var/lib/secateur/artifacts /scratch

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/secateur
ENV PATH=/opt/secateur/scripts:/opt/secateur/bin:$PATH

# torch first and alone: gigabytes that a change of our own code does not download again.
COPY docker/worker-constraints.txt /src/docker/worker-constraints.txt
RUN pip install -r /src/docker/worker-constraints.txt

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY api_schemas api_schemas
COPY checkpoints checkpoints
COPY store store
COPY service service
COPY worker worker
COPY secateur secateur
RUN pip install -c docker/worker-constraints.txt ".[server,worker,export,torchao]"
COPY docker/scripts /opt/secateur/scripts

# Nothing is fetched while a model is loaded: what a job needs was fetched by the supervisor.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SECATEUR_DATA_DIR=/var/lib/secateur \
    SECATEUR_SCRATCH_DIR=/scratch \
    SECATEUR_DEVICE=cuda \
    HF_HOME=/scratch/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib

USER 10001:10001
WORKDIR /var/lib/secateur
VOLUME ["/var/lib/secateur", "/scratch"]

ENTRYPOINT ["entrypoint.sh"]
CMD ["worker"]
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=4 CMD ["healthcheck.sh", "worker"]
