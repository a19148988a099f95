# The image of the API, the maintenance worker, beat and the migration: everything that needs no torch.
# Build from the root of the repository: docker build -f docker/api.Dockerfile -t secateur/api .

ARG BASE_IMAGE=python:3.12-slim-bookworm

FROM ${BASE_IMAGE} AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# What installs, and `strip` for docker/slim.py, stay in this stage. Debian drops old versions: a pin would stop building.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/* \
    && python -m venv /opt/build && python -m venv --without-pip /opt/secateur
WORKDIR /src
# Every version and every file's hash: `make locks` writes them.
COPY docker/locks/build.txt docker/locks/api.txt docker/locks/
RUN /opt/build/bin/pip install --require-hashes --no-deps -r docker/locks/build.txt \
    && /opt/build/bin/pip --python /opt/secateur/bin/python install --no-compile --require-hashes --no-deps -r docker/locks/api.txt
COPY pyproject.toml README.md LICENSE ./
COPY api_schemas api_schemas
COPY checkpoints checkpoints
COPY store store
COPY service service
COPY worker worker
COPY secateur secateur
COPY server server
COPY docker/slim.py docker/slim.py
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . ./server \
    && /opt/build/bin/pip --python /opt/secateur/bin/python install --no-compile --no-deps /wheels/*.whl \
    && /opt/build/bin/pip --python /opt/secateur/bin/python check
# Elsewhere, so that what is imported is what was installed.
WORKDIR /
RUN /opt/secateur/bin/python /src/docker/slim.py


FROM ${BASE_IMAGE}

# A fixed number, so that the owner of a volume's files is the same in every image.
RUN groupadd --gid 10001 secateur \
    && useradd --uid 10001 --gid secateur --no-create-home --home-dir /var/lib/secateur --shell /usr/sbin/nologin secateur \
    && install -d -o secateur -g secateur -m 0750 /var/lib/secateur /var/lib/secateur/artifacts

COPY --from=build /opt/secateur /opt/secateur
COPY docker/scripts /opt/secateur/scripts

ENV PATH=/opt/secateur/scripts:/opt/secateur/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SECATEUR_DATA_DIR=/var/lib/secateur

USER 10001:10001
WORKDIR /var/lib/secateur
VOLUME /var/lib/secateur
EXPOSE 8000

ENTRYPOINT ["entrypoint.sh"]
CMD ["api"]
HEALTHCHECK --interval=15s --timeout=10s --start-period=30s --retries=4 CMD ["healthcheck.sh", "api"]
