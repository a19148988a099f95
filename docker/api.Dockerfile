# The image of the API, the maintenance worker, beat and the migration: everything that needs no torch.
# Build from the root of the repository: docker build -f docker/api.Dockerfile -t secateur/api .

FROM python:3.12-slim-bookworm AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/secateur
ENV PATH=/opt/secateur/bin:$PATH
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY api_schemas api_schemas
COPY checkpoints checkpoints
COPY store store
COPY service service
COPY worker worker
COPY secateur secateur
# The versions are pinned in pyproject.toml.
# hadolint ignore=DL3013
RUN pip install ".[server]"


FROM python:3.12-slim-bookworm

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
