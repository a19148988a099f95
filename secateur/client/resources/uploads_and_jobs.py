"""`client.jobs`, `client.models`, `client.datasets` and `client.sweeps`, without `await`.

Most calls here are calls of the client under another name. Calling a resource directly lists it: `client.jobs(state="running")`.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from api_schemas.api.resources import DatasetResource, ModelResource
from api_schemas.api.samples import DatasetSample
from api_schemas.api.sweeps import SweepResource
from secateur.client.job import Job
from secateur.client.resources.async_uploads_and_jobs import (
    AsyncDatasets,
    AsyncJobs,
    AsyncModels,
    AsyncSweeps,
    LabelQuery,
)
from secateur.client.transport.backend import iterate, run

if TYPE_CHECKING:
    from secateur.client.blocking_client import Secateur


class Jobs:
    """Jobs: `create`, `estimate`, `preview`, `get`, `list`, `delete`."""

    def __init__(self, client: "Secateur", jobs: AsyncJobs) -> None:
        self._jobs = jobs
        self.create = client.submit
        self.estimate = client.estimate
        self.preview = client.preview
        self.get = client.job
        self.delete = client.delete_job

    def list(
        self,
        *,
        state: str | Iterable[str] | None = None,
        labels: LabelQuery | None = None,
        model: str | ModelResource | None = None,
        sweep: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first, fetched page by page as you iterate. A job has to match all given filters.

        >>> for job in client.jobs.list(state=["queued", "running"], labels={"team": "speech", "urgent": None}):
        ...     print(job.id, job.progress)

        Args:
            labels: labels with their values; None matches any value.
            created_after: and created_before need a time zone.
        """
        found = self._jobs.list(
            state=state,
            labels=labels,
            model=model,
            sweep=sweep,
            created_after=created_after,
            created_before=created_before,
        )
        return (Job(job) for job in iterate(found))

    __call__ = list


class Models:
    """Models: `upload`, `get`, `list`, `delete`."""

    def __init__(self, client: "Secateur", models: AsyncModels) -> None:
        self._models = models
        self.upload = client.upload_model
        self.get = client.model
        self.delete = client.delete_model

    def list(self) -> Iterator[ModelResource]:
        """Models, newest first; incomplete uploads have the state `open`.

        >>> [model.name for model in client.models.list()]
        """
        return iterate(self._models.list())

    __call__ = list


class Datasets:
    """Datasets: `upload`, `get`, `list`, `delete`, `samples`, `sample_media`."""

    def __init__(self, client: "Secateur", datasets: AsyncDatasets) -> None:
        self._datasets = datasets
        self.upload = client.upload_dataset
        self.get = client.dataset
        self.delete = client.delete_dataset

    def list(self) -> Iterator[DatasetResource]:
        """Datasets, newest first; incomplete uploads have the state `open`.

        >>> [dataset.name for dataset in client.datasets.list()]
        """
        return iterate(self._datasets.list())

    def samples(self, dataset: str | DatasetResource) -> tuple[DatasetSample, ...]:
        """Up to nine rows of a ready dataset, at even distances in every split. Empty for one completed by an earlier version.

        >>> [(sample.split, sample.label) for sample in client.datasets.samples("dst_…")]
        """
        return run(self._datasets.samples(dataset))

    def sample_media(self, dataset: str | DatasetResource, number: int) -> bytes:
        """The recording (WAV, its first five seconds) or image (PNG, at most 96 × 96 pixels) of a sample.

        Raises NotFound for texts.

        >>> Path("sample.wav").write_bytes(client.datasets.sample_media("dst_…", 0))
        """
        return run(self._datasets.sample_media(dataset, number))

    __call__ = list


class Sweeps:
    """Sweeps: `create`, `get`, `list`, `delete`."""

    def __init__(self, client: "Secateur", sweeps: AsyncSweeps) -> None:
        self._sweeps = sweeps
        self.create = client.submit_sweep
        self.get = client.sweep
        self.delete = client.delete_sweep

    def list(self) -> Iterator[SweepResource]:
        """Sweeps without their tables, newest first.

        >>> [(sweep.id, sweep.state) for sweep in client.sweeps.list()]
        """
        return iterate(self._sweeps.list())

    __call__ = list
