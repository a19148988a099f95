"""Filtered lists of jobs, newest first. Each page is read from an index that has its rows in order.

With two filters, the index of the one that fewer jobs match is read, and the other is checked per row.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, union_all
from sqlalchemy.orm import Session

from api_schemas.enums import JobState
from api_schemas.spec.labels import parse_selector
from store.database.paging import Rows, as_page, newest_first
from store.database.tables import Job, JobLabel
from store.database.tenancy import owned_by, select_owned

BY_AGE = (Job.created_at, Job.id)
COUNTED = 1000
"""Jobs that have something are counted no further: then it is common."""


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list is of: those that meet all that is given."""

    states: Collection[JobState] = ()
    """In one of these; in any, where there are none."""
    labels: Collection[str] = ()
    """A `LabelSelector` each."""
    model_id: str | None = None
    """Of an upload, or of the job that made the step."""
    dataset_id: str | None = None
    """No index has it: all jobs of the tenant are looked at, newest first, until enough are found."""
    sweep_id: str | None = None
    created_after: datetime | None = None
    """At that moment, too."""
    created_before: datetime | None = None

    def narrow(self, query: Select[Any], tenant: str, made: Any = Job.created_at) -> Select[Any]:
        """The rows of `query` that meet it. `made`: a column that says when a job was created."""
        if self.states:
            query = query.where(Job.state.in_(self.states))
        if self.model_id is not None:
            query = query.where(Job.model_id == self.model_id)
        if self.dataset_id is not None:
            query = query.where(Job.dataset_id == self.dataset_id)
        if self.sweep_id is not None:
            query = query.where(Job.sweep_id == self.sweep_id)
        if self.created_after is not None:
            query = query.where(made >= self.created_after)
        if self.created_before is not None:
            query = query.where(made < self.created_before)
        for label in self.labels:
            has = select(JobLabel.job_id).where(JobLabel.job_id == Job.id, _labelled(tenant, label))
            query = query.where(has.correlate(Job).exists())
        return query


EVERY_JOB = JobFilter()


def page(session: Session, tenant: str, cursor: str | None, limit: int, wanted: JobFilter = EVERY_JOB) -> Rows[Job]:
    """Newest first, those left out that were deleted."""
    label = _label_to_read_by(session, tenant, wanted)
    if label is not None:
        query = _of_label(tenant, label, wanted, cursor, limit)
    elif len(wanted.states) > 1:
        query = _of_states(tenant, wanted, cursor, limit)
    else:
        query = newest_first(wanted.narrow(_listed(tenant), tenant), BY_AGE, cursor, limit)
    return as_page(session.scalars(query).all(), limit)


def _listed(tenant: str) -> Select[Job]:
    return select_owned(Job, tenant).where(Job.deleted_at.is_(None))


def _labelled(tenant: str, label: str) -> ColumnElement[bool]:
    key, value = parse_selector(label)
    has = and_(owned_by(JobLabel, tenant), JobLabel.key == key)
    return has if value is None else and_(has, JobLabel.value == value)


def _of_label(tenant: str, label: str, wanted: JobFilter, cursor: str | None, limit: int) -> Select[Job]:
    """In the order of the label's own rows, which is the jobs'."""
    others = replace(wanted, labels=[each for each in wanted.labels if each != label])
    having = _listed(tenant).join(JobLabel, JobLabel.job_id == Job.id).where(_labelled(tenant, label))
    narrowed = others.narrow(having, tenant, made=JobLabel.created_at)
    return newest_first(narrowed, (JobLabel.created_at, JobLabel.job_id), cursor, limit)


def _of_states(tenant: str, wanted: JobFilter, cursor: str | None, limit: int) -> Select[Job]:
    """The newest of each state, and of these the newest."""
    each = [
        newest_first(replace(wanted, states=[state]).narrow(_listed(tenant), tenant), BY_AGE, cursor, limit)
        for state in wanted.states
    ]
    found = union_all(*(select(one.with_only_columns(Job.id).subquery()) for one in each))
    return newest_first(select_owned(Job, tenant).where(Job.id.in_(found)), BY_AGE, cursor, limit)


def _label_to_read_by(session: Session, tenant: str, wanted: JobFilter) -> str | None:
    """The label that the fewest jobs have. None where fewer yet are in the state or of the model that is asked for."""
    if not wanted.labels:
        return None
    labels = list(dict.fromkeys(wanted.labels))
    others = list(_other_ways(tenant, wanted))
    if len(labels) == 1 and not others:
        return labels[0]
    having = {label: _count(session, select(JobLabel.job_id).where(_labelled(tenant, label))) for label in labels}
    rarest = min(labels, key=having.__getitem__)
    return rarest if all(having[rarest] <= _count(session, other) for other in others) else None


def _other_ways(tenant: str, wanted: JobFilter) -> Iterator[Select[Any]]:
    listed = _listed(tenant).with_only_columns(Job.id)
    if wanted.states:
        yield listed.where(Job.state.in_(wanted.states))
    if wanted.model_id is not None:
        yield listed.where(Job.model_id == wanted.model_id)
    if wanted.sweep_id is not None:
        yield listed.where(Job.sweep_id == wanted.sweep_id)


def _count(session: Session, rows: Select[Any]) -> int:
    return session.scalar(select(func.count()).select_from(rows.limit(COUNTED).subquery())) or 0
