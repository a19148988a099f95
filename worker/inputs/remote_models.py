"""Models from a hub or a bucket: fetched into the model folder, and checked there like an upload before the engine sees them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from api_schemas.errors import ErrorCode, SecateurError
from api_schemas.spec.inputs import BucketModel, HubModel
from checkpoints.file_names import checkpoint_names, require_weights
from store.files.model_buckets import BucketFolder, parse_buckets
from store.settings import Settings
from store.uploads.inspection.models.folder import check_names, check_sizes
from store.uploads.inspection.models.local import judge_folder
from worker.inputs.hub import Away, Hub, Refused
from worker.inputs.kept_inputs import KeptInputs


class TransientFailure(Exception):
    """The inputs could not be brought now; the job is tried again."""

    def __init__(self, error: SecateurError) -> None:
        super().__init__(error.detail)
        self.error = error


def from_hub(
    reference: HubModel, folder: Path, settings: Settings, check: Callable[[], None], kept: KeptInputs
) -> None:
    """Of the repository's files those that a checkpoint is read from.

    Raises MODEL_FETCH_FAILED, the codes of an upload that is refused, TransientFailure, or what `check` raises.
    """
    hub = Hub(settings, check, kept)
    try:
        listed = {file.name: file for file in hub.files("models", reference.id, reference.revision)}
        chosen = checkpoint_names(listed)
        require_weights(listed, f"The repository {reference.id}")
        check_names(chosen)
        check_sizes({name: listed[name].size for name in chosen}, settings.max_file_bytes, settings.max_model_bytes)
        hub.fetch_all("models", reference.id, reference.revision, (listed[name] for name in chosen), folder)
    except Refused as error:
        raise _failed(reference, str(error)) from error
    except Away as error:
        raise TransientFailure(_failed(reference, str(error))) from error
    judge_folder(folder, settings.max_json_bytes)


def from_bucket(
    reference: BucketModel,
    lineage: Mapping[str, str],
    folder: Path,
    settings: Settings,
    check: Callable[[], None],
    kept: KeptInputs,
) -> None:
    """The files as they were when the job was submitted.

    Raises INPUT_LOST where one has changed since, STORAGE_UNAVAILABLE (which is tried again), or what `check` raises.
    """
    found = BucketFolder(parse_buckets(settings.model_buckets), reference)
    found = found.narrowed(checkpoint_names(found.sizes))
    if found.state != lineage["model_state"]:
        detail = (
            f"Files in {reference.bucket}/{reference.prefix} have changed since the job was submitted; submit it again."
        )
        raise SecateurError(ErrorCode.INPUT_LOST, detail)
    for name, listed in found.objects.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        download = partial(_download, found, name, path, check)
        if listed.etag:
            kept.bring(f"bucket {reference.bucket} {listed.key} {listed.size} {listed.etag}", path, download)
        else:
            download()
    judge_folder(folder, settings.max_json_bytes)


def _download(found: BucketFolder, name: str, path: Path, check: Callable[[], None]) -> None:
    with path.open("wb") as out:
        for chunk in found.chunks(name):
            check()
            out.write(chunk)


def _failed(reference: HubModel, why: str) -> SecateurError:
    detail = f"The model {reference.id} at {reference.revision[:12]} could not be fetched: {why}"
    return SecateurError(ErrorCode.MODEL_FETCH_FAILED, detail)
