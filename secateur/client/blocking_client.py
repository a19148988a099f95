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
from secateur.client.blocking_administration import Keys, Webhooks
from secateur.client.files.model_files import Saves
from secateur.client.job import Job
from secateur.client.job_request import JobFields
from secateur.client.progress import ProgressCallback
from secateur.client.resources import Datasets, Jobs, Models, Sweeps
from secateur.client.sweep import Sweep
from secateur.client.transport.api_calls import ApiCalls, JobSpec
from secateur.client.transport.backend import SyncBackend, iterate, run
from secateur.client.transport.connection import address, http_options, open_connection


class Secateur:
    """A service. Not for several threads at once: give each its own.

    >>> from secateur import Secateur, load
    >>> with Secateur("http://127.0.0.1:8000") as client:
    ...     model = client.upload_model("./my-ast")
    ...     data = client.upload_dataset("./my-data")
    ...     job = client.submit(model, data, preset="best", sparsity=0.5)
    ...     job.wait().download("./pruned")
    >>> pruned = load("./pruned", trust_remote_code=True)

    Args:
        url: of the service; default SECATEUR_URL of the environment, then http://127.0.0.1:8000.
        api_key: default SECATEUR_API_KEY of the environment, then none.
        timeout: seconds for one answer; what takes the service longer has more.
        max_retries: how often a request is sent again after connection errors, 429, 502, 503 and 504, with growing delays
            or after `Retry-After`. What makes something has an `Idempotency-Key`, or is not repeated where it may have been
            heard. Every try again is logged as a warning of the logger `secateur`.
        first_contact_retries: how often a connection that fails is tried again while the service has not answered at all yet;
            default `max_retries`.
        http_client: an httpx.Client of your own, for proxies, certificates or tests.
        sleep: how to wait; for tests.

    Raises, in every call, errors of `secateur.errors`.
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
        self.url = address(url)
        options: dict[str, Any] = http_options(self.url, timeout)
        self._own = http_client is None
        self._backend = SyncBackend(http_client or httpx.Client(**options), sleep)
        self._calls = ApiCalls(open_connection(self._backend, self.url, api_key, max_retries, first_contact_retries))
        self.webhooks = Webhooks(self._calls.webhooks)
        """Addresses of yours that are told what becomes of jobs."""
        self.keys = Keys(self._calls.keys)
        """API keys of the tenant, and its audit log."""

    def close(self) -> None:
        """Close its connections; one that was given as `http_client` is left open.

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
        """Send a checkpoint; returns it with what the service found in it (`.id`, `.layout`).

        What breaks off goes on where it stopped; so does a call with the same files after the program was ended. Files that
        the service has are not sent.

        >>> model = client.upload_model("./my-ast", progress=print)
        >>> model = client.upload_model(live_model, processor=feature_extractor)
        >>> model.layout.max_sparsity

        Args:
            model: a folder as `save_pretrained` writes it, or a live model of transformers, saved to a temporary folder.
            processor: of a live model, what makes its inputs: feature extractor, image processor or tokenizer.
            name: for people; default the folder's.

        Raises InvalidRequest where it cannot be pruned; `pointers` names the file.
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
        """Send data; returns it with what the service found in it (`.id`, `.contents`).

        >>> data = client.upload_dataset("./my-data")
        >>> data = client.upload_dataset(datasets.load_dataset("parquet", data_files="train.parquet"))
        >>> data.contents.rows

        Args:
            data: a folder of parquet shards; a folder of recordings or images, as `<split>/<label>/<file>` or with a
                `metadata.csv`, or of texts, which is packed first (`pip install 'secateur[data]'`); one parquet, csv
                or jsonl file; a `datasets.Dataset` or `DatasetDict`.
            columns: which columns are what, where their names do not say it (docs/data.md).
            splits: names of splits by role, where a folder has others than usual.

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
        """Queue a job.

        >>> job = client.submit(model, data, preset="best", sparsity=0.5, finetune={"epochs": 1}, labels={"team": "speech"})
        >>> job = client.submit("mdl_…", "dst_…", pruning={"target": {"flops": 0.5}, "parts": ["attention", "feed_forward"]})
        >>> job = client.submit(spec=json.loads(Path("job.json").read_text()))

        Args:
            model: what `upload_model` returned, an id, a checkpoint of a job, or a reference: `{"type": "hf", "id": "owner/name",
                "revision": "<commit>"}`, `{"type": "s3", …}`, `{"type": "step", …}`.
            data: what `upload_dataset` returned, an id, or a reference of type `hf`.
            spec: a whole request, or the part that is not given otherwise; what is given by itself wins.
            idempotency_key: of your own, where a call in a new program is to make no second job; the same within a day, with
                the same arguments, returns the first one's.
            fields: `preset`, `sparsity`, `pruning`, `finetune`, `evaluate`, `stop`, `exports`, `columns`, `splits`, `limits`,
                `name`, `labels`, `priority`, `seed`, `deterministic`; see `JobFields`.

        Raises InvalidRequest where it could not succeed: `pointers` names the field.
        """
        return Job(run(self._calls.submit(model, data, spec=spec, idempotency_key=idempotency_key, **fields)))

    def estimate(
        self, model: Any = None, data: Any = None, *, spec: JobSpec | None = None, **fields: Unpack[JobFields]
    ) -> JobEstimate:
        """What a job would come to: parameters, FLOPs and bytes after every step; time and memory once such jobs have run.

        >>> client.estimate(model, data, sparsity=0.5).steps[-1].total_parameters

        Arguments and errors as `submit`; nothing is stored.
        """
        return run(self._calls.estimate(model, data, spec=spec, **fields))

    def preview(
        self, model: Any = None, data: Any = None, *, spec: JobSpec | None = None, **fields: Unpack[JobFields]
    ) -> JobPreview:
        """The request with every default and the preset filled in, and its estimate.

        >>> client.preview(model, data, sparsity=0.5).request.pruning.granularity

        Arguments and errors as `submit`; nothing is stored.
        """
        return run(self._calls.preview(model, data, spec=spec, **fields))

    def job(self, job_id: str) -> Job:
        """A job by its id.

        >>> client.job("job_…").state
        """
        return Job(run(self._calls.job(job_id)))

    @property
    def jobs(self) -> Jobs:
        """Jobs: `create` is `submit`, `get` is `job`; `estimate`, `preview`, `list`, `delete`. Called by itself it is `list`.

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
        """Queue a job for every combination of `methods` and the values of `grid`, or for each of `specs`: all, or none.

        >>> sweep = client.submit_sweep(model, data, methods="paper", sparsity=0.5, finetune=None)
        >>> sweep = client.submit_sweep(model, data, grid={"pruning.target.flops": [0.25, 0.5], "seed": [0, 1, 2]})
        >>> sweep = client.submit_sweep(model, data, sparsity=0.5, specs=[{"finetune": None}, {"finetune": {"epochs": 3}}])

        Args:
            model: and data: as `submit`.
            methods: `paper`, the twelve of arXiv 2509.26207.
            grid: by path of a field, the values that are tried.
            specs: instead of both, what each job has beside `fields`.
            max_parallel: the most of its jobs that run at once; None: as many as workers take.
            spec: a whole request of a sweep, or the part that is not given otherwise; what is given by itself wins.
            idempotency_key: as `submit`.
            fields: what all jobs have, as `submit` takes it; `name` is the sweep's.

        Raises InvalidRequest where any job could not succeed: `pointers` names the place.
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
        """Sweeps: `create` is `submit_sweep`, `get` is `sweep`; `list`, `delete`.

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
        """Models: `upload` is `upload_model`, `get` is `model`; `list`, `delete`.

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
        """Datasets: `upload` is `upload_dataset`, `get` is `dataset`; `list`, `delete`.

        >>> [dataset.name for dataset in client.datasets.list()]
        """
        return Datasets(self, self._calls.datasets)

    def limits(self) -> Limits:
        """What the service accepts, and how much of the tenant's quotas is used.

        >>> client.limits().quotas.stored_bytes
        """
        return run(self._calls.limits())

    def workers(self) -> Iterator[WorkerResource]:
        """What runs jobs, and on what. Needs a key of scope `admin`.

        >>> [(worker.name, worker.device, worker.busy) for worker in client.workers()]
        """
        return iterate(self._calls.workers())

    def delete_model(self, model: str | ModelResource) -> None:
        """Remove a model, or give up one that was not completed. While a job needs it: Conflict.

        >>> client.delete_model(model)
        """
        run(self._calls.delete_model(model))

    def delete_dataset(self, dataset: str | DatasetResource) -> None:
        """Remove a dataset, or give up one that was not completed. While a job needs it: Conflict.

        >>> client.delete_dataset(data)
        """
        run(self._calls.delete_dataset(dataset))

    def delete_job(self, job_id: str) -> None:
        """Remove a job that has ended, with its checkpoints; `Job.delete` without fetching it.

        >>> client.delete_job("job_…")
        """
        run(self._calls.delete_job(job_id))

    def delete_sweep(self, sweep_id: str) -> None:
        """Remove a sweep whose jobs have all ended, with them; `Sweep.delete` without fetching it.

        >>> client.delete_sweep("swp_…")
        """
        run(self._calls.delete_sweep(sweep_id))
