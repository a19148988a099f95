"""The client without `await`."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from api_schemas.api.resources import DatasetResource, Limits, ModelResource
from api_schemas.api.workers import WorkerResource
from api_schemas.results.estimate import JobEstimate, JobPreview
from api_schemas.spec.inputs import Columns, Splits
from api_schemas.spec.sweep import Methods
from secateur.client.files.model_files import Saves
from secateur.client.job import Job
from secateur.client.job_request import JobFields
from secateur.client.progress import ProgressCallback
from secateur.client.resources.administration import Keys, Webhooks
from secateur.client.resources.uploads_and_jobs import Datasets, Jobs, Models, Sweeps
from secateur.client.sweep import Sweep
from secateur.client.transport.api_calls import ApiCalls, JobSpec
from secateur.client.transport.backend import SyncBackend, iterate, run
from secateur.client.transport.connection import address, http_options, open_connection, separated


class Secateur:
    """Client of a service. Not thread-safe: use one per thread.

    >>> from secateur import Secateur, load
    >>> with Secateur("http://127.0.0.1:8000") as client:
    ...     model = client.upload_model("./my-ast")
    ...     data = client.upload_dataset("./my-data")
    ...     job = client.submit(model, data, preset="best", sparsity=0.5)
    ...     job.wait().download("./pruned")
    >>> pruned = load("./pruned", trust_remote_code=True)

    Args:
        url: URL of the service. Default: SECATEUR_URL of the environment, else http://127.0.0.1:8000.
        api_key: API key. Default: SECATEUR_API_KEY of the environment, else none.
        timeout: seconds to wait for a response; calls that take the service longer have longer timeouts.
        max_retries: how often a request is retried after connection errors, 429, 502, 503 and 504, with growing delays
            or after `Retry-After`. Requests that create something have an `Idempotency-Key`, or are not retried if the
            service may have received them. Every retry is logged as a warning of the logger `secateur`.
        first_contact_retries: how often a failing connection is retried as long as the service has not responded at all;
            default: `max_retries`.
        http_client: your own httpx.Client, for proxies, certificates or tests.
        sleep: the function used to wait; for tests.

    All calls raise the errors in `secateur.errors`.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        max_retries: int = 5,
        first_contact_retries: int | None = None,
        http_client: httpx.Client | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        given = address(url)
        self.url, _ = separated(given)
        options: dict[str, Any] = http_options(self.url, timeout)
        self._own = http_client is None
        self._backend = SyncBackend(http_client or httpx.Client(**options), sleep)
        self._calls = ApiCalls(open_connection(self._backend, given, api_key, max_retries, first_contact_retries))
        self.webhooks = Webhooks(self._calls.webhooks)
        """Webhooks: URLs of yours that are called when something happens to a job."""
        self.keys = Keys(self._calls.keys)
        """API keys of the tenant, and its audit log."""

    def close(self) -> None:
        """Close the connections; an `http_client` that was passed in stays open.

        >>> client.close()
        """
        if self._own:
            run(self._backend.end())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Secateur {self.url}>"

    def upload_model(
        self,
        model: str | Path | Saves,
        *,
        processor: Saves | None = None,
        name: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> ModelResource:
        """Upload a checkpoint; returns it with what the service found in it (`.id`, `.layout`).

        An interrupted upload is resumed, also by another call with the same files after a restart of the program. Files that
        the service already has are not sent.

        >>> model = client.upload_model("./my-ast", progress=print)
        >>> model = client.upload_model(live_model, processor=feature_extractor)
        >>> model.layout.max_sparsity

        Args:
            model: a folder written by `save_pretrained`, or a transformers model in memory, which is saved to a temporary folder.
            processor: the feature extractor, image processor or tokenizer of a model in memory.
            name: a label for people; default the folder's name.

        Raises InvalidRequest if the model cannot be pruned; `pointers` names the file.
        """
        return run(self._calls.upload_model(model, processor=processor, name=name, progress=progress))

    def upload_dataset(
        self,
        data: Any,
        *,
        name: str | None = None,
        columns: Columns | Mapping[str, Any] | None = None,
        splits: Splits | Mapping[str, Any] | None = None,
        progress: ProgressCallback | None = None,
    ) -> DatasetResource:
        """Upload a dataset; returns it with what the service found in it (`.id`, `.contents`).

        >>> data = client.upload_dataset("./my-data")
        >>> data = client.upload_dataset(datasets.load_dataset("parquet", data_files="train.parquet"))
        >>> data.contents.rows

        Args:
            data: a folder of parquet shards; a folder of recordings or images, as `<split>/<label>/<file>` or with a
                `metadata.csv`, or of texts, which is packed first (`pip install 'secateur[data]'`); one parquet, csv
                or jsonl file; a `datasets.Dataset` or `DatasetDict`.
            columns: column names by role, if they are not the usual ones (docs/data.md).
            splits: split names by role, if they are not the usual ones.

        Raises InvalidRequest, MissingDependency.
        """
        return run(self._calls.upload_dataset(data, name=name, columns=columns, splits=splits, progress=progress))

    def submit(
        self,
        model: Any = None,
        data: Any = None,
        *,
        spec: JobSpec | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[JobFields],
    ) -> Job:
        """Submit a job.

        >>> job = client.submit(model, data, preset="best", sparsity=0.5, finetune={"epochs": 1}, labels={"team": "speech"})
        >>> job = client.submit("mdl_…", "dst_…", pruning={"target": {"flops": 0.5}, "parts": ["attention", "feed_forward"]})
        >>> job = client.submit(spec=json.loads(Path("job.json").read_text()))

        Args:
            model: the return value of `upload_model`, an id, a checkpoint of a job, or a reference: `{"type": "hf",
                "id": "owner/name", "revision": "<commit>"}`, `{"type": "s3", …}`, `{"type": "step", …}`.
            data: the return value of `upload_dataset`, an id, or a reference of type `hf`.
            spec: a whole request, or a part of one; the other arguments override it.
            idempotency_key: your own key, so that a repeated call, also from another program, does not create a second job:
                with the same key and arguments within a day, it returns the first job.
            fields: `preset`, `sparsity`, `pruning`, `finetune`, `evaluate`, `stop`, `exports`, `columns`, `splits`, `limits`,
                `name`, `labels`, `priority`, `seed`, `deterministic`; see `JobFields`.

        Raises InvalidRequest if the job could not succeed; `pointers` names the field.
        """
        return Job(run(self._calls.submit(model, data, spec=spec, idempotency_key=idempotency_key, **fields)))

    def estimate(
        self, model: Any = None, data: Any = None, *, spec: JobSpec | None = None, **fields: Unpack[JobFields]
    ) -> JobEstimate:
        """Estimate a job: parameters, FLOPs and bytes after every step; time and memory once similar jobs have run.

        >>> client.estimate(model, data, sparsity=0.5).steps[-1].total_parameters

        Arguments and errors as for `submit`; nothing is stored.
        """
        return run(self._calls.estimate(model, data, spec=spec, **fields))

    def preview(
        self, model: Any = None, data: Any = None, *, spec: JobSpec | None = None, **fields: Unpack[JobFields]
    ) -> JobPreview:
        """Return the request with the preset and all defaults filled in, and an estimate.

        >>> client.preview(model, data, sparsity=0.5).request.pruning.granularity

        Arguments and errors as for `submit`; nothing is stored.
        """
        return run(self._calls.preview(model, data, spec=spec, **fields))

    def job(self, job_id: str) -> Job:
        """A job by its id.

        >>> client.job("job_…").state
        """
        return Job(run(self._calls.job(job_id)))

    @property
    def jobs(self) -> Jobs:
        """Jobs: `create` is `submit`, `get` is `job`; also `estimate`, `preview`, `list`, `delete`. Calling it directly is
        `list`.

        >>> for job in client.jobs.list(state="running"):
        ...     print(job.id, job.progress)
        """
        return Jobs(self, self._calls.jobs)

    def submit_sweep(
        self,
        model: Any = None,
        data: Any = None,
        *,
        methods: Methods | None = None,
        grid: Mapping[str, Iterable[Any]] | None = None,
        specs: Iterable[Mapping[str, Any]] | None = None,
        max_parallel: int | None = 4,
        spec: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[JobFields],
    ) -> Sweep:
        """Submit a job for every combination of `methods` and the values of `grid`, or for each of `specs`: all of them or
        none.

        >>> sweep = client.submit_sweep(model, data, methods="paper", sparsity=0.5, finetune=None)
        >>> sweep = client.submit_sweep(model, data, grid={"pruning.target.flops": [0.25, 0.5], "seed": [0, 1, 2]})
        >>> sweep = client.submit_sweep(model, data, sparsity=0.5, specs=[{"finetune": None}, {"finetune": {"epochs": 3}}])

        Args:
            model: and data: as for `submit`.
            methods: `paper`, the twelve methods of arXiv 2509.26207.
            grid: the values to try, by path of the field.
            specs: instead of both, the fields of each job in addition to `fields`.
            max_parallel: maximum number of its jobs that run at once; None: no limit.
            spec: a whole request of a sweep, or a part of one; the other arguments override it.
            idempotency_key: as for `submit`.
            fields: fields shared by all jobs, as for `submit`; `name` is the name of the sweep.

        Raises InvalidRequest if any job could not succeed; `pointers` names the place.
        """
        submitted = self._calls.submit_sweep(
            model,
            data,
            methods=methods,
            grid=grid,
            specs=specs,
            max_parallel=max_parallel,
            spec=spec,
            idempotency_key=idempotency_key,
            **fields,
        )
        return Sweep(run(submitted))

    def sweep(self, sweep_id: str) -> Sweep:
        """A sweep by its id.

        >>> client.sweep("swp_…").fronts
        """
        return Sweep(run(self._calls.sweep(sweep_id)))

    @property
    def sweeps(self) -> Sweeps:
        """Sweeps: `create` is `submit_sweep`, `get` is `sweep`; also `list`, `delete`.

        >>> [(sweep.id, sweep.state) for sweep in client.sweeps.list()]
        """
        return Sweeps(self, self._calls.sweeps)

    def model(self, model_id: str) -> ModelResource:
        """A model by its id.

        >>> client.model("mdl_…").layout.architecture
        """
        return run(self._calls.model(model_id))

    @property
    def models(self) -> Models:
        """Models: `upload` is `upload_model`, `get` is `model`; also `list`, `delete`.

        >>> client.models.upload("./my-ast").id
        """
        return Models(self, self._calls.models)

    def dataset(self, dataset_id: str) -> DatasetResource:
        """A dataset by its id.

        >>> client.dataset("dst_…").contents.labels
        """
        return run(self._calls.dataset(dataset_id))

    @property
    def datasets(self) -> Datasets:
        """Datasets: `upload` is `upload_dataset`, `get` is `dataset`; also `list`, `delete`.

        >>> [dataset.name for dataset in client.datasets.list()]
        """
        return Datasets(self, self._calls.datasets)

    def limits(self) -> Limits:
        """What the service accepts, and the usage of the tenant's quotas.

        >>> client.limits().quotas.stored_bytes
        """
        return run(self._calls.limits())

    def workers(self) -> Iterator[WorkerResource]:
        """The processes that run jobs, and their devices. Requires a key of scope `admin`.

        >>> [(worker.name, worker.device, worker.busy) for worker in client.workers()]
        """
        return iterate(self._calls.workers())

    def delete_model(self, model: str | ModelResource) -> None:
        """Delete a model, or an upload that was not completed. Raises Conflict while a job needs it.

        >>> client.delete_model(model)
        """
        run(self._calls.delete_model(model))

    def delete_dataset(self, dataset: str | DatasetResource) -> None:
        """Delete a dataset, or an upload that was not completed. Raises Conflict while a job needs it.

        >>> client.delete_dataset(data)
        """
        run(self._calls.delete_dataset(dataset))

    def delete_job(self, job_id: str) -> None:
        """Delete a job that has ended, with its checkpoints; like `Job.delete`, without fetching the job.

        >>> client.delete_job("job_…")
        """
        run(self._calls.delete_job(job_id))

    def delete_sweep(self, sweep_id: str) -> None:
        """Delete a sweep whose jobs have all ended, with its jobs; like `Sweep.delete`, without fetching the sweep.

        >>> client.delete_sweep("swp_…")
        """
        run(self._calls.delete_sweep(sweep_id))
