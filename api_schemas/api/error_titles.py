"""What every error code means and what to do, in a line each: problem titles and docs/errors.md come from here."""

from collections.abc import Mapping
from typing import NamedTuple

from api_schemas.errors import ErrorCode


class ErrorText(NamedTuple):
    """`title` is the `title` of the problem document; `remedy` is what docs/errors.md adds."""

    title: str
    remedy: str


_C = ErrorCode
ERROR_TEXTS: Mapping[ErrorCode, ErrorText] = {
    _C.INVALID_REQUEST: ErrorText(
        "The request is not valid", "Each entry of `errors` points at a field; correct it and send again."
    ),
    _C.NOT_FOUND: ErrorText("Not found", "Check the address or the identifier; nothing was changed."),
    _C.METHOD_NOT_ALLOWED: ErrorText("This address has no such method", "The `Allow` header lists the methods it has."),
    _C.CONFLICT: ErrorText(
        "The present state does not allow this", "Read the resource again; the detail names the state it is in."
    ),
    _C.UNAUTHENTICATED: ErrorText(
        "A key is needed", "Send `Authorization: Bearer sk_…` with a key that is neither revoked nor expired."
    ),
    _C.FORBIDDEN: ErrorText(
        "This caller may not do this",
        "The detail names the scope the key lacks, or the setting that keeps callers out.",
    ),
    _C.HOST_REFUSED: ErrorText(
        "The service does not answer to this host name",
        "Call it by a name the operator has listed in `SECATEUR_ALLOWED_HOSTS`; without keys, by 127.0.0.1 or localhost.",
    ),
    _C.RATE_LIMITED: ErrorText("Too many requests in a short time", "Try again after the time in `Retry-After`."),
    _C.QUOTA_EXCEEDED: ErrorText(
        "The tenant's quota is used up",
        "`GET /v1/limits` shows quotas and what is used; the detail says what makes room.",
    ),
    _C.EXPIRED: ErrorText(
        "This was kept for its time and is gone", "Upload it again, or run the job again; its metrics are still there."
    ),
    _C.DELETED: ErrorText(
        "This was deleted",
        "Its owner removed it, or its time after its end was over; nothing of it can be had any more.",
    ),
    _C.ARTIFACT_LOST: ErrorText(
        "A stored file is gone",
        "The server knows the file, and its store has lost or damaged it. Its operator may restore it from a backup; else upload "
        "it again, or run the job again.",
    ),
    _C.IDEMPOTENCY_KEY_INVALID: ErrorText(
        "The `Idempotency-Key` cannot be used",
        "1 to 255 visible ASCII characters, in double quotes or without; a fresh UUID is best.",
    ),
    _C.IDEMPOTENCY_MISMATCH: ErrorText(
        "The `Idempotency-Key` belongs to another request",
        "Take a new key for a new request; the same key only to send the same request again.",
    ),
    _C.IDEMPOTENCY_IN_PROGRESS: ErrorText(
        "The first request with this `Idempotency-Key` is still at work",
        "Send it again after the time in `Retry-After`; nothing is done twice.",
    ),
    _C.TOO_MANY_STREAMS: ErrorText(
        "Too many event streams are open",
        "Close one, or try again after the time in `Retry-After`; the events can also be had page by page.",
    ),
    _C.REQUEST_TOO_LARGE: ErrorText("The request is too large", "`GET /v1/limits` says what this server accepts."),
    _C.HEADERS_TOO_LARGE: ErrorText(
        "The request has too many headers", "A hundred are read, of 16 KiB together; leave out what is not needed."
    ),
    _C.MEDIA_TYPE_REFUSED: ErrorText(
        "The body is of a kind that is not read",
        "JSON in UTF-8 with `Content-Type: application/json`; files as they are, one a request, as the body of their PUT. "
        "No forms, and nothing compressed.",
    ),
    _C.TOO_SLOW: ErrorText(
        "The request came too slowly", "Nothing of it was kept. Send it again, over a connection that does not stall."
    ),
    _C.RANGE_NOT_SATISFIABLE: ErrorText(
        "The range lies outside the file", "The `Content-Range` header carries the file's size."
    ),
    _C.TUS_VERSION: ErrorText(
        "Resumable uploads speak tus 1.0.0 here", "Send `Tus-Resumable: 1.0.0`; the `Tus-Version` header says so, too."
    ),
    _C.UNAVAILABLE: ErrorText("The service cannot answer right now", "Try again after the time in `Retry-After`."),
    _C.STORAGE_FULL: ErrorText(
        "The artifact store is full",
        "Nothing half-written is kept. Try again once the operator has made room; a job waits and tries again by itself first.",
    ),
    _C.STORAGE_UNAVAILABLE: ErrorText(
        "The artifact store does not answer, or refuses",
        "Try again; the operator's log has its answer. A job waits and tries again by itself first.",
    ),
    _C.INTERNAL: ErrorText(
        "Something went wrong inside the service", "Not your request's fault; try again, then tell the operator."
    ),
    _C.TARGET_REFUSED: ErrorText(
        "This server does not call this address",
        "Only https to hosts on the public internet, on the ports that the detail names; the detail says what was wrong.",
    ),
    _C.CHECKSUM_MISMATCH: ErrorText(
        "The file's SHA-256 is not the declared one", "The bytes were dropped. Send the file again, or declare it anew."
    ),
    _C.PIECE_CHECKSUM_MISMATCH: ErrorText(
        "The piece's checksum is not the one in `Upload-Checksum`", "The piece was dropped; send it again."
    ),
    _C.UPLOAD_OFFSET: ErrorText(
        "The file stands at another offset", "Ask for it with HEAD, and go on at its `Upload-Offset`."
    ),
    _C.FILE_TYPE_REFUSED: ErrorText(
        "Files of this kind are not accepted",
        "Weights as safetensors, data as parquet, the rest as JSON or text. Convert pickle files (`.bin`, `.pt`) first.",
    ),
    _C.FILE_NAME_REFUSED: ErrorText(
        "The file name is not accepted", "One path segment of letters, digits, dot, dash and underscore."
    ),
    _C.FILE_MISSING: ErrorText("A file that is needed is missing", "Declare and upload it; the detail names it."),
    _C.FILE_UNEXPECTED: ErrorText(
        "A file does not belong to this upload", "Upload only what was declared and what the family uses."
    ),
    _C.UPLOAD_CLOSED: ErrorText("The upload is complete and cannot change", "Start a new upload."),
    _C.UPLOAD_INCOMPLETE: ErrorText("The upload is not complete", "Send the missing files, then call `complete`."),
    _C.SAFETENSORS_INVALID: ErrorText(
        "The safetensors file is not well formed", "Save it again with the safetensors library; the detail says where."
    ),
    _C.WEIGHTS_NOT_FINITE: ErrorText(
        "The weights hold a NaN or an infinity",
        "The detail names the tensor. Save a checkpoint from before its training broke down.",
    ),
    _C.CONFIG_INVALID: ErrorText("config.json cannot be used", "The detail names the key."),
    _C.CODE_REFUSED: ErrorText(
        "Checkpoints that bring code are refused", "Remove `auto_map` and other code-bearing keys; use a stock class."
    ),
    _C.ARCHITECTURE_UNSUPPORTED: ErrorText(
        "This architecture cannot be pruned here", "`GET /v1/limits` lists the families that can."
    ),
    _C.WEIGHTS_MISMATCH: ErrorText(
        "The weights do not fit the config", "Names and shapes must be those that the config describes."
    ),
    _C.MODEL_FETCH_FAILED: ErrorText(
        "The model could not be fetched",
        "Check id and revision, or bucket and prefix; the detail says which file or rule it was. Or upload the files.",
    ),
    _C.STEP_NOT_PRUNABLE: ErrorText(
        "The step cannot be pruned further",
        "Said by older servers of steps whose `stock_layout` is false; take such a step on a newer one.",
    ),
    _C.DATASET_EMPTY: ErrorText(
        "The dataset has too few rows", "Every split that is used needs rows, and more than one; the detail names it."
    ),
    _C.DATASET_SCHEMA: ErrorText(
        "The dataset's columns cannot be used",
        "It needs a column of what the checkpoint reads (audio or images with their bytes inside, texts, lists of words) and one "
        "of what it answers (labels, tags, transcripts, answers; none for embeddings, hidden states and masked words); name them "
        "in `columns` where they are ambiguous.",
    ),
    _C.LABELS_MISMATCH: ErrorText(
        "The dataset's labels are not the checkpoint's",
        "Labels are matched by name with `id2label`; the error carries both lists.",
    ),
    _C.AUDIO_UNDECODABLE: ErrorText(
        "A recording cannot be decoded", "wav, flac, ogg or mp3; the detail names the row. Remove or re-encode it."
    ),
    _C.IMAGE_UNDECODABLE: ErrorText(
        "An image cannot be decoded", "PNG, JPEG, WebP, GIF or BMP; the detail names the row. Remove or re-encode it."
    ),
    _C.DATASET_FETCH_FAILED: ErrorText(
        "The dataset could not be fetched", "Check repository and revision; private ones are not reached."
    ),
    _C.SPARSITY_OUT_OF_REACH: ErrorText(
        "The target cannot be reached",
        "The error names the maximum, or the smallest cut; ask for less or more, or take a finer granularity.",
    ),
    _C.WIDTH_MISALIGNED: ErrorText(
        "The head width is not a multiple of `align`", "Take a smaller `align`; the detail names the width."
    ),
    _C.NO_CHECKPOINT: ErrorText(
        "The job has no such checkpoint", "List the job's checkpoints; a step is there once it is done."
    ),
    _C.ORIGINAL_MISMATCH: ErrorText(
        "The engine does not read the checkpoint as transformers does",
        "Nothing was cut. Load the model with transformers, save it with `save_pretrained`, and send that.",
    ),
    _C.RELOAD_MISMATCH: ErrorText(
        "The packaged checkpoint did not give the same logits",
        "The job was stopped rather than hand out a wrong model. Please report it with the job's id.",
    ),
    _C.EXPORT_UNAVAILABLE: ErrorText(
        "The worker cannot write this export",
        "Leave `exports` out, or have the operator install the extra: `pip install 'secateur[export]'` for ONNX, "
        "`'secateur[torchao]'` for torchao's formats.",
    ),
    _C.EXPORT_FAILED: ErrorText(
        "The exported file could not be made, or does not give the checkpoint's logits",
        "Leave `exports` out to get the checkpoint alone, and please report it with the job's id.",
    ),
    _C.NUMERICAL: ErrorText(
        "A number became infinite or undefined", "Lower the learning rate, or check weights and recordings."
    ),
    _C.OUT_OF_MEMORY: ErrorText(
        "The worker ran out of memory",
        "It was tried again with half as many samples at a time. Lower `finetune.batch_size`, `pruning.calibration` and "
        "`evaluate.batch_size`, or use a larger worker.",
    ),
    _C.SCRATCH_FULL: ErrorText(
        "The worker's disk ran full", "Try again later; the operator has to give the worker more scratch space."
    ),
    _C.STALLED: ErrorText(
        "The engine said nothing for too long and was ended",
        "It was retried and stalled again; `GET /v1/jobs/{id}/logs` shows how far it came.",
    ),
    _C.MAX_RUNTIME: ErrorText(
        "The job ran for longer than its `limits.max_runtime`",
        "Its finished steps can be downloaded. Submit again with a higher limit, fewer steps or fewer epochs.",
    ),
    _C.ENGINE_CRASHED: ErrorText(
        "The engine process died",
        "It was retried and died again; `GET /v1/jobs/{id}/logs` and the operator's log have the reason.",
    ),
    _C.ENGINE_ERROR: ErrorText(
        "The engine met an error it did not expect", "The operator's log has the traceback; please report it."
    ),
    _C.INPUT_LOST: ErrorText("An input of the job is gone", "Upload it again and submit a new job."),
}
