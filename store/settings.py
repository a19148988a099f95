"""Every setting of the server side, in one place. Each is read from the environment as `SECATEUR_<NAME>`, or from a file.

The defaults run everything on one machine below `data_dir`; production points the three URLs elsewhere.
"""

import os
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from store.files.model_buckets import parse_buckets

PREFIX = "SECATEUR_"
LARGEST_FILE = 2**16
"""Bytes of a file that holds a setting."""
REPOSITORIES = r"^[A-Za-z0-9_.-]+/(\*|[A-Za-z0-9_.-]+)$"
"""One of the hub, or all of an owner."""


class _Files(PydanticBaseSettingsSource):
    """`SECATEUR_<NAME>_FILE`: the setting is what the file holds, without blanks at its ends. For secrets of containers."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Raises SettingsError where the file cannot be read, or the setting is given in the environment as well."""
        variable = f"{PREFIX}{field_name.upper()}"
        path = os.environ.get(f"{variable}_FILE")
        if not path:
            return None, field_name, False
        if variable in os.environ:
            raise SettingsError(f"{variable} and {variable}_FILE are both set; leave one out")
        try:
            with Path(path).open(encoding="utf-8") as file:
                content = file.read(LARGEST_FILE + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise SettingsError(f"{variable}_FILE: {path} cannot be read: {reason}") from None
        if len(content) > LARGEST_FILE:
            raise SettingsError(f"{variable}_FILE: {path} is larger than {LARGEST_FILE} bytes")
        return content.strip(), field_name, self.field_is_complex(field)

    def __call__(self) -> dict[str, Any]:
        """Of every setting that has a file, what it holds."""
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, _, is_complex = self.get_field_value(field, name)
            if value is not None:
                found[name] = self.prepare_field_value(name, field, value, is_complex)
        return found


class Settings(BaseSettings):
    """Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, validate_default=True, hide_input_in_errors=True)

    # Storage
    data_dir: Path = Field(Path(".secateur"), description="Root folder of all data on this machine.")
    database_url: str = Field(
        "",
        description="`sqlite:////abs/path` or `postgresql+psycopg://…`. Default: a SQLite file in data_dir.",
        repr=False,
    )
    database_password: SecretStr | None = Field(
        None, description="Password for PostgreSQL if database_url has none; it can be read from a file of its own."
    )
    artifacts_url: str = Field(
        "",
        description="`file:///abs/folder`, `s3://bucket/prefix` (credentials from AWS_*), `az://container/prefix` (AZURE_*) or "
        "`gs://bucket/prefix` (GOOGLE_*). Default: in data_dir.",
        repr=False,
    )
    broker_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis or Valkey: `redis://host:port/0`, `redis+socket:///path`, or over TLS `rediss://host:port/0`, with "
        "`?ssl_ca_certs=/path` if its certificate was issued by your own authority.",
        repr=False,
    )
    broker_password: SecretStr | None = Field(
        None,
        description="Password for Redis or Valkey over TCP if broker_url has none; it can be read from a file of its "
        "own.",
    )
    database_seconds: float = Field(
        15,
        gt=0,
        description="Longest time that a transaction waits for the database, for locks or for a connection, and that "
        "PostgreSQL waits for a client that is silent during a transaction.",
    )
    scratch_dir: Path | None = Field(
        None, description="Where a worker stores the files of the job it runs. Default: `scratch` in data_dir."
    )
    worker_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="A name that the worker keeps after restarts and that no other worker has. When it starts with a new "
        "scratch folder, it can then still hand back the job that its predecessor held. Default: the host name, for which "
        "this is not assumed.",
    )

    # Leases and maintenance
    lease_seconds: float = Field(
        60, gt=0, description="How long a job stays assigned to a worker that no longer sends heartbeats."
    )
    heartbeat_seconds: float = Field(
        10, gt=0, description="How often a worker renews its lease; at most half of lease_seconds."
    )
    failure_cap: int = Field(
        3, ge=1, description="Number of unplanned ends, without a committed step in between, after which a job fails."
    )
    retry_delay_seconds: float = Field(
        5, ge=0, description="Delay before a job is retried after an unplanned end; doubles each time."
    )
    stall_seconds: float = Field(
        1800, gt=0, description="An engine without output for this long is killed, which counts as an unplanned end."
    )
    storage_patience_seconds: float = Field(
        300, ge=0, description="How long a worker retries when the artifact store cannot store or return a file."
    )
    training_seconds: float = Field(
        60, ge=0, description="Minimum time between two saved states of a step's recovery; 0 saves after every epoch."
    )
    sweep_seconds: float = Field(
        10, gt=0, description="How often maintenance looks for expired leases and lost wake-ups."
    )
    collect_seconds: float = Field(
        3600, gt=0, description="How often orphaned artifacts, which no record refers to, are searched for."
    )
    orphan_seconds: float = Field(86400, ge=0, description="Age at which an orphaned artifact is removed.")
    orphan_dry_run: bool = Field(False, description="Only log how many orphans would be removed.")
    restored_seconds: float = Field(
        7 * 86400,
        ge=0,
        description="How long no orphans are removed after the database was found to be older than the artifact store's "
        "latest record, that is, restored from a backup.",
    )

    # Retention (null: kept for ever)
    open_upload_seconds: float = Field(7 * 86400, gt=0, description="How long an upload may stay incomplete.")
    upload_retention_seconds: float | None = Field(
        None, gt=0, description="How long a complete upload is kept; longer while an unfinished job needs it."
    )
    result_retention_seconds: float | None = Field(
        None, gt=0, description="How long checkpoints are kept after their job has ended; its metrics remain."
    )

    job_retention_seconds: float | None = Field(
        365 * 86400,
        gt=0,
        description="How long a job is kept after it has ended; it is then removed as by DELETE, with its checkpoints.",
    )
    event_retention_seconds: float | None = Field(
        180 * 86400, gt=0, description="How long the events of a job are kept after it has ended."
    )
    log_retention_seconds: float | None = Field(
        90 * 86400, gt=0, description="How long a part of a job's log is kept after it was written."
    )
    tombstone_seconds: float | None = Field(
        90 * 86400,
        gt=0,
        description="How long a deleted or expired resource returns 410; after that, 404.",
    )
    audit_retention_seconds: float | None = Field(2 * 365 * 86400, gt=0, description="How long the audit log is kept.")
    idempotency_seconds: float = Field(86400, gt=0, description="How long the response to an Idempotency-Key is kept.")

    # Event streams
    max_event_streams: int = Field(2000, ge=1, description="Maximum number of event streams per API process.")
    max_event_streams_per_tenant: int = Field(200, ge=1, description="Maximum number of event streams per tenant.")
    event_poll_seconds: float = Field(0.5, gt=0, description="How often streams query the database for new events.")
    # Access (docs/deploy.md)
    auth: Literal["none", "keys"] = Field(
        "none", description="`none`: requests from this machine only, without a key. `keys`: requests with an API key."
    )
    session_seconds: float = Field(
        12 * 3600, gt=0, description="Maximum duration of a session on the page, after signing in with a key."
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="Host names, as a JSON list, under which the service is called, besides those of this machine; `*` "
        "for any.",
    )

    refused_keys_per_minute: int | None = Field(
        100, ge=1, description="Maximum number of rejected keys per address and minute; null: no limit."
    )

    # Quotas of a tenant (null: no limit)
    requests_per_minute: int | None = Field(None, ge=1, description="Maximum number of requests per tenant and minute.")
    rate_storage: Literal["memory", "broker"] = Field(
        "memory",
        description="Where requests are counted: in the memory of the API process, or, if there are several, in the "
        "broker.",
    )
    max_stored_bytes: int | None = Field(
        None, ge=1, description="Maximum total size of a tenant's uploads, including declared ones, and checkpoints."
    )
    max_waiting_jobs: int | None = Field(None, ge=1, description="Maximum number of queued or paused jobs per tenant.")
    max_running_jobs: int | None = Field(None, ge=1, description="Maximum number of running jobs per tenant.")

    # Preemption
    preemption: Literal["off", "tenant", "all"] = Field(
        "off",
        description="Whether a job of higher priority can preempt a running one, at its next step or saved epoch: `tenant`, "
        "only a job of the same tenant; `all`, also a job of a tenant that runs more jobs.",
    )
    max_preemptions: int = Field(3, ge=1, description="How many times a job can be preempted.")

    # Logs and metrics
    log_format: Literal["console", "json"] = Field(
        "console", description="Log format: lines for people, or JSON for programs."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Minimum level of log lines.")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port on which the API serves metrics for Prometheus, separate from the API's own. Default: none.",
    )
    metrics_host: str = Field("127.0.0.1", description="The address of the metrics port; metrics need no key.")

    # The engine
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="The device that the engine runs on.")
    engine_devices: int = Field(
        1,
        ge=1,
        le=64,
        description="Number of GPUs that an engine uses together, the first ones that it sees, with one process each; without "
        "a GPU, the number of processes.",
    )
    offload_weights: bool = Field(
        False,
        description="Whether a worker with a GPU also takes jobs that need more memory than the GPU has. The weights of their "
        "models' layers stay in the host's memory; such jobs take longer.",
    )
    engine_threads: int | None = Field(
        None,
        ge=1,
        description="CPU threads of an engine. Default: OMP_NUM_THREADS of the worker; else the cores, or the container's CPU "
        "quota if that is less, divided by the engines that run on the machine when it starts. The processes of "
        "engine_devices share them.",
    )
    measure_device: bool = Field(
        True,
        description="Whether a worker that has nothing to do measures its device once, for about two seconds, so that the time "
        "of a first job can be estimated. A device that was measured before is not measured again.",
    )
    cancel_grace_seconds: float = Field(
        30, ge=0, description="Time between SIGTERM and SIGKILL when an engine has to stop."
    )
    engine_command: tuple[str, ...] = Field(
        (sys.executable, "-m", "worker.engine"),
        min_length=1,
        description="The command that starts the engine, as a JSON list.",
    )
    engine_user: str | None = Field(
        None, description="User that the engine runs as if the worker is root. Default: the worker's own user."
    )
    engine_memory_bytes: int | None = Field(
        None,
        ge=2**20,
        description="Memory limit of an engine and its child processes, without GPU memory; an engine that exceeds it is "
        "killed, and its job counts as out of memory. Default: 90% of what the machine or the container has.",
    )
    shared_bytes: int = Field(
        4 * 2**30,
        ge=0,
        description="Maximum size of inputs and results that a worker caches in its scratch folder for later jobs of the same "
        "tenant; 0: no cache.",
    )
    engine_file_bytes: int = Field(64 * 2**30, ge=2**20, description="Largest file that an engine can write.")
    engine_processes: int = Field(
        4096,
        ge=64,
        description="Maximum number of processes and threads of an engine and its child processes; an engine that exceeds it "
        "is killed.",
    )
    engine_folders: tuple[Path, ...] = Field(
        (),
        description="Folders besides its scratch folder that an engine can read and write, as a JSON list: a shared cache.",
    )
    max_log_bytes: int = Field(
        4 * 2**20, ge=2**16, description="Size of the log kept for each attempt; the newest part is kept."
    )
    hub_url: str = Field(
        "https://huggingface.co", description="The hub from which models and datasets of type `hf` are fetched."
    )
    hub_token: SecretStr | None = Field(
        None,
        description="Read token for private and gated hub repositories, sent only for hub_token_repositories.",
    )
    hub_token_repositories: tuple[Annotated[str, StringConstraints(pattern=REPOSITORIES)], ...] = Field(
        (),
        description="Repositories for which the token is sent, as a JSON list: `owner/name`, or `owner/*` for all of an "
        "owner. Everyone who can submit jobs can read them.",
    )
    max_model_bytes: int = Field(
        32 * 2**30, ge=1, description="Largest model that a worker fetches, all files together."
    )
    model_buckets: str = Field(
        "{}",
        repr=False,
        description='Buckets that models can be read from, as JSON: `{"name": {"url": "s3://bucket/prefix", "options": '
        "{…}}}`, with options such as aws_access_key_id, aws_secret_access_key, aws_region, aws_endpoint (docs/deploy.md).",
    )
    max_dataset_bytes: int = Field(64 * 2**30, ge=1, description="Largest hub dataset that a worker fetches.")
    fetch_timeout_seconds: float = Field(6 * 3600, gt=0, description="Time limit for fetching a model or dataset.")

    # Outgoing connections
    outbound_ports: tuple[int, ...] = Field(
        (443, 8443), min_length=1, description="Ports that webhook and hub URLs can use, as a JSON list."
    )
    outbound_test_target: str = Field(
        "",
        pattern=r"^(127\.0\.0\.1:[0-9]{1,5})?$",
        description="Only for tests: one `127.0.0.1:port` that may be called, also without TLS.",
    )
    hub_hosts: tuple[str, ...] = Field(
        ("huggingface.co", "*.huggingface.co", "*.hf.co"),
        description="Hosts that the hub may be at and redirect to, as a JSON list; `*.` stands for all subdomains.",
    )

    # Webhooks
    max_webhooks: int = Field(20, ge=0, description="Maximum number of webhooks per tenant.")
    webhook_seconds: float = Field(5, gt=0, description="How often maintenance looks for deliveries that are due.")
    webhook_timeout_seconds: float = Field(15, gt=0, description="Time limit for one webhook call.")
    webhook_retry_seconds: float = Field(
        5, ge=0, description="Delay after the first failure of a delivery; four times as long after each further one."
    )
    webhook_longest_wait_seconds: float = Field(86400, gt=0, description="Maximum delay between attempts.")
    webhook_give_up_seconds: float = Field(3 * 86400, gt=0, description="Age at which a delivery is given up.")
    webhook_disable_seconds: float = Field(
        5 * 86400, gt=0, description="How long a webhook can fail without a single success before it is disabled."
    )
    webhook_rotation_seconds: float = Field(
        86400, ge=0, description="How long the previous secret still signs after a rotation."
    )
    webhook_log_seconds: float = Field(
        30 * 86400, gt=0, description="How long deliveries are kept in the delivery log."
    )

    # Limits on requests and uploads
    receive_head_seconds: float = Field(20, gt=0, description="Time limit for receiving the head of a request.")
    transfer_window_seconds: float = Field(
        30,
        gt=0,
        description="Time window in which a request's body must arrive at the minimum speed, and the client must "
        "accept data of the response.",
    )
    transfer_bytes_per_second: float = Field(
        1024, ge=0, description="Minimum speed of a request's body, averaged over this window."
    )
    max_file_bytes: int = Field(8 * 2**30, ge=1, description="Largest uploaded file.")
    max_files: int = Field(256, ge=1, description="Maximum number of files per upload.")
    max_inspections: int = Field(
        2,
        ge=1,
        description="Maximum number of uploaded datasets that a maintenance worker checks at once; one per tenant.",
    )
    check_wait_seconds: float = Field(
        1, ge=0, description="How long `complete` waits for a dataset's check before it returns 202."
    )
    inspection_seconds: int = Field(900, ge=1, description="Time limit for checking an uploaded dataset.")
    inspection_memory_bytes: int = Field(4 * 2**30, ge=2**28, description="Memory limit for this check.")
    max_dataset_rows: int = Field(
        10_000_000, ge=1, description="Maximum number of rows of an uploaded dataset, over all shards."
    )
    max_unpacked_bytes: int = Field(
        64 * 2**30, ge=1, description="Maximum unpacked size of the columns of an uploaded dataset that a job reads."
    )
    max_json_bytes: int = Field(2**20, ge=1024, description="Largest JSON request body and largest uploaded JSON file.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The usual ones; after the environment the files that it names."""
        return (init_settings, env_settings, _Files(settings_cls), dotenv_settings, file_secret_settings)

    @model_validator(mode="before")
    @classmethod
    def _below_data_dir(cls, values: dict[str, object]) -> dict[str, object]:
        root = Path(str(values.get("data_dir") or ".secateur")).expanduser().absolute()
        here = {
            "data_dir": root,
            "database_url": f"sqlite:///{root / 'secateur.db'}",
            "artifacts_url": (root / "artifacts").as_uri(),
            "scratch_dir": root / "scratch",
        }
        return values | {name: value for name, value in here.items() if name == "data_dir" or not values.get(name)}

    @model_validator(mode="after")
    def _passwords_go_into_their_urls(self) -> Self:
        for name, scheme in (("database", "postgresql"), ("broker", "rediss?")):
            password: SecretStr | None = getattr(self, f"{name}_password")
            if password is None:
                continue
            try:
                url = make_url(getattr(self, f"{name}_url"))
            except ArgumentError:
                raise ValueError(f"{name}_url is not a URL") from None
            if not re.fullmatch(rf"{scheme}(\+psycopg)?", url.drivername):
                raise ValueError(
                    f"{name}_password is for a server that is reached over TCP; {name}_url names {url.drivername}"
                )
            if url.password is not None:
                raise ValueError(f"{name}_url has a password already; leave {name}_password out")
            if name == "database" and not url.username:
                raise ValueError("database_password is set, but database_url names no user")
            whole = url.set(username=url.username or "", password=password.get_secret_value())
            # The settings are frozen; what is put in is a part of one of them.
            object.__setattr__(self, f"{name}_url", whole.render_as_string(hide_password=False))
        return self

    @model_validator(mode="after")
    def _certificates_are_verified(self) -> Self:
        # Celery's default for a broker over TLS is to take any.
        if self.broker_url.startswith("rediss://") and "ssl_cert_reqs" not in (url := make_url(self.broker_url)).query:
            whole = url.update_query_dict({"ssl_cert_reqs": "required"}).render_as_string(hide_password=False)
            object.__setattr__(self, "broker_url", whole)
        return self

    @model_validator(mode="after")
    def _the_token_is_for_something(self) -> Self:
        if (self.hub_token is None) is bool(self.hub_token_repositories):
            raise ValueError(
                "hub_token and hub_token_repositories go together: the token is sent for these repositories alone"
            )
        return self

    @model_validator(mode="after")
    def _heartbeats_fit_in_a_lease(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError("heartbeat_seconds must be at most half of lease_seconds")
        return self

    @model_validator(mode="after")
    def _buckets_can_be_read(self) -> Self:
        parse_buckets(self.model_buckets)
        return self

    @model_validator(mode="after")
    def _any_host_only_with_keys(self) -> Self:
        if self.auth == "none" and "*" in self.allowed_hosts:
            raise ValueError("allowed_hosts may be `*` only with auth=keys: any web page could reach the service")
        return self

    @property
    def scratch(self) -> Path:
        """`scratch_dir`, resolved."""
        return self.scratch_dir or self.data_dir / "scratch"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
