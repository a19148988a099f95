"""Every call of the client, with `await`, over a connection of either kind."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

from api_schemas.api.resources import DatasetResource, JobResource, Limits, ModelResource
from api_schemas.api.sweeps import SweepDetail
from api_schemas.api.workers import WorkerResource
from api_schemas.results.estimate import JobEstimate, JobPreview
from api_schemas.spec.inputs import Columns, Splits
from api_schemas.spec.job import JobRequest
from api_schemas.spec.sweep import Methods
from secateur.client.async_job import AsyncJob
from secateur.client.async_sweep import AsyncSweep
from secateur.client.files.data_files import data_files
from secateur.client.files.model_files import Saves, model_files, saved
from secateur.client.files.uploads import upload
from secateur.client.job_request import JobFields, add_near_matches, body_of, sweep_body_of
from secateur.client.progress import ProgressCallback
from secateur.client.resources.async_administration import AsyncKeys, AsyncWebhooks
from secateur.client.resources.async_uploads_and_jobs import AsyncDatasets, AsyncJobs, AsyncModels, AsyncSweeps
from secateur.client.transport.connection import Connection, id_of, parsed, segment
from secateur.errors import InvalidRequest

JobSpec = JobRequest | Mapping[str, Any]


class ApiCalls:
    """The calls of `AsyncSecateur`, and of `Secateur` without `await`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.webhooks = AsyncWebhooks(connection)
        self.keys = AsyncKeys(connection)

    async def upload_model(
        self,
        model: str | Path | Saves,
        *,
        processor: Saves | None = None,
        name: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> ModelResource:
        """As `Secateur.upload_model`."""
        if isinstance(model, str | Path):
            if processor is not None:
                raise InvalidRequest("`processor` is only for a model object: a folder contains its processor's files.")
            folder = Path(model)
            return await self._upload_model(folder, name or folder.resolve().name, progress)
        if not hasattr(model, "save_pretrained"):
            detail = f"A {type(model).__name__} is not a model: give a folder, or a transformers model."
            raise InvalidRequest(detail, code="file_type_refused")
        live = saved(model, processor)
        work = self._connection.backend.work
        folder = await work(live.__enter__)
        try:
            return await self._upload_model(folder, name or type(model).__name__, progress)
        finally:
            await work(lambda: live.__exit__(None, None, None))

    async def _upload_model(self, folder: Path, name: str, progress: ProgressCallback | None) -> ModelResource:
        return await upload(self._connection, "models", ModelResource, name, model_files(folder), None, progress)

    async def upload_dataset(
        self,
        data: Any,
        *,
        name: str | None = None,
        columns: Columns | Mapping[str, Any] | None = None,
        splits: Splits | Mapping[str, Any] | None = None,
        progress: ProgressCallback | None = None,
    ) -> DatasetResource:
        """As `Secateur.upload_dataset`."""
        if name is None:
            name = Path(data).resolve().name if isinstance(data, str | Path) else type(data).__name__
        named = Splits.model_validate(splits or {})
        called = Columns.model_validate(columns or {})
        body = None if columns is None else {"columns": called.model_dump(exclude_unset=True)}
        async with data_files(self._connection.backend, data, named, called, progress) as files:
            return await upload(self._connection, "datasets", DatasetResource, name, files, body, progress)

    async def submit(
        self,
        model: Any = None,
        data: Any = None,
        *,
        spec: JobSpec | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[JobFields],
    ) -> AsyncJob:
        """As `Secateur.submit`."""
        body = body_of(model, data, spec, fields)
        with _near_matches():
            found = await self._connection.post(JobResource, "/jobs", body, key=idempotency_key or True)
        return AsyncJob(self._connection, found)

    async def estimate(
        self, model: Any = None, data: Any = None, *, spec: JobSpec | None = None, **fields: Unpack[JobFields]
    ) -> JobEstimate:
        """As `Secateur.estimate`."""
        with _near_matches():
            return await self._connection.post(JobEstimate, "/jobs:estimate", body_of(model, data, spec, fields))

    async def preview(
        self, model: Any = None, data: Any = None, *, spec: JobSpec | None = None, **fields: Unpack[JobFields]
    ) -> JobPreview:
        """As `Secateur.preview`."""
        body, params = body_of(model, data, spec, fields), {"validate_only": True}
        with _near_matches():
            return parsed(JobPreview, await self._connection.call("POST", "/jobs", json=body, params=params))

    async def job(self, job_id: str) -> AsyncJob:
        """As `Secateur.job`."""
        return AsyncJob(self._connection, await self._connection.get(JobResource, f"/jobs/{segment(job_id)}"))

    @property
    def jobs(self) -> AsyncJobs:
        """As `Secateur.jobs`."""
        return AsyncJobs(self, self._connection)

    async def submit_sweep(
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
    ) -> AsyncSweep:
        """As `Secateur.submit_sweep`."""
        body = {"max_parallel": max_parallel, **sweep_body_of(model, data, spec, methods, grid, specs, fields)}
        with _near_matches(sweep=True):
            found = await self._connection.post(SweepDetail, "/sweeps", body, key=idempotency_key or True)
        return AsyncSweep(self._connection, found)

    async def sweep(self, sweep_id: str) -> AsyncSweep:
        """As `Secateur.sweep`."""
        return AsyncSweep(self._connection, await self._connection.get(SweepDetail, f"/sweeps/{segment(sweep_id)}"))

    @property
    def sweeps(self) -> AsyncSweeps:
        """As `Secateur.sweeps`."""
        return AsyncSweeps(self, self._connection)

    async def delete_sweep(self, sweep_id: str) -> None:
        """As `Secateur.delete_sweep`."""
        await self._connection.delete(f"/sweeps/{segment(sweep_id)}")

    async def model(self, model_id: str) -> ModelResource:
        """As `Secateur.model`."""
        return await self._connection.get(ModelResource, f"/models/{segment(model_id)}")

    @property
    def models(self) -> AsyncModels:
        """As `Secateur.models`."""
        return AsyncModels(self, self._connection)

    async def dataset(self, dataset_id: str) -> DatasetResource:
        """As `Secateur.dataset`."""
        return await self._connection.get(DatasetResource, f"/datasets/{segment(dataset_id)}")

    @property
    def datasets(self) -> AsyncDatasets:
        """As `Secateur.datasets`."""
        return AsyncDatasets(self, self._connection)

    async def limits(self) -> Limits:
        """As `Secateur.limits`."""
        return await self._connection.get(Limits, "/limits")

    def workers(self) -> AsyncGenerator[WorkerResource]:
        """As `Secateur.workers`."""
        return self._connection.pages(WorkerResource, "/workers")

    async def delete_model(self, model: str | ModelResource) -> None:
        """As `Secateur.delete_model`."""
        await self._connection.delete(f"/models/{segment(id_of(model))}")

    async def delete_dataset(self, dataset: str | DatasetResource) -> None:
        """As `Secateur.delete_dataset`."""
        await self._connection.delete(f"/datasets/{segment(id_of(dataset))}")

    async def delete_job(self, job_id: str) -> None:
        """As `Secateur.delete_job`."""
        await self._connection.delete(f"/jobs/{segment(job_id)}")


@contextmanager
def _near_matches(sweep: bool = False) -> Iterator[None]:
    """What the service refuses is raised with what was probably meant."""
    try:
        yield
    except InvalidRequest as error:
        add_near_matches(error, sweep)
        raise
