"""`client.jobs`, `client.models`, `client.datasets` and `client.sweeps`, with `await`."""

from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from api_schemas.api.resources import DatasetResource, JobResource, ModelResource
from api_schemas.api.samples import DatasetSample, DatasetSamples
from api_schemas.api.sweeps import SweepResource
from secateur.client.async_job import AsyncJob
from secateur.client.transport.connection import Connection, id_of, segment

if TYPE_CHECKING:
    from secateur.client.transport.api_calls import ApiCalls

LabelQuery = Mapping[str, str | None] | Iterable[str]
"""`{"team": "speech", "urgent": None}`, where None matches any value; or as in the API, `["team=speech", "urgent"]`."""


class AsyncJobs:
    """As `Jobs`."""

    def __init__(self, client: "ApiCalls", connection: Connection) -> None:
        self._connection = connection
        self.create = client.submit
        self.estimate = client.estimate
        self.preview = client.preview
        self.get = client.job
        self.delete = client.delete_job

    async def list(
        self,
        *,
        state: str | Iterable[str] | None = None,
        labels: LabelQuery | None = None,
        model: str | ModelResource | None = None,
        sweep: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> AsyncGenerator[AsyncJob]:
        """As `Jobs.list`."""
        query = {
            "state": [state] if isinstance(state, str) else [*(state or ())],
            "label": _selectors(labels or ()),
            "model": None if model is None else id_of(model),
            "sweep": sweep,
            "created_after": None if created_after is None else created_after.isoformat(),
            "created_before": None if created_before is None else created_before.isoformat(),
        }
        async for view in self._connection.pages(JobResource, "/jobs", **query):
            yield AsyncJob(self._connection, view)

    __call__ = list


class AsyncModels:
    """As `Models`."""

    def __init__(self, client: "ApiCalls", connection: Connection) -> None:
        self._connection = connection
        self.upload = client.upload_model
        self.get = client.model
        self.delete = client.delete_model

    def list(self) -> AsyncGenerator[ModelResource]:
        """As `Models.list`."""
        return self._connection.pages(ModelResource, "/models")

    __call__ = list


class AsyncDatasets:
    """As `Datasets`."""

    def __init__(self, client: "ApiCalls", connection: Connection) -> None:
        self._connection = connection
        self.upload = client.upload_dataset
        self.get = client.dataset
        self.delete = client.delete_dataset

    def list(self) -> AsyncGenerator[DatasetResource]:
        """As `Datasets.list`."""
        return self._connection.pages(DatasetResource, "/datasets")

    async def samples(self, dataset: str | DatasetResource) -> tuple[DatasetSample, ...]:
        """As `Datasets.samples`."""
        return (await self._connection.get(DatasetSamples, f"/datasets/{segment(id_of(dataset))}/samples")).items

    async def sample_media(self, dataset: str | DatasetResource, number: int) -> bytes:
        """As `Datasets.sample_media`."""
        path = f"/datasets/{segment(id_of(dataset))}/samples/{number}/media"
        return (await self._connection.call("GET", path)).content

    __call__ = list


class AsyncSweeps:
    """As `Sweeps`."""

    def __init__(self, client: "ApiCalls", connection: Connection) -> None:
        self._connection = connection
        self.create = client.submit_sweep
        self.get = client.sweep
        self.delete = client.delete_sweep

    def list(self) -> AsyncGenerator[SweepResource]:
        """As `Sweeps.list`."""
        return self._connection.pages(SweepResource, "/sweeps")

    __call__ = list


def _selectors(labels: LabelQuery) -> list[str]:
    if isinstance(labels, str):
        return [labels]
    if isinstance(labels, Mapping):
        return [key if value is None else f"{key}={value}" for key, value in labels.items()]
    return [*labels]
