"""The title and the advice of every error code: problem titles and docs/errors.md come from here."""

from collections.abc import Mapping
from typing import NamedTuple

from api_schemas.errors import ErrorCode


class ErrorText(NamedTuple):
    """`title` is the `title` of the problem document. `remedy` is the advice that docs/errors.md adds."""

    title: str
    remedy: str


_C = ErrorCode
ERROR_TEXTS: Mapping[ErrorCode, ErrorText] = {
    _C.INVALID_REQUEST: ErrorText(
        "The request is not valid", "Each entry of `errors` points at a field. Correct it and send the request again."
    ),
    _C.NOT_FOUND: ErrorText("Not found", "Check the address or the identifier. Nothing was changed."),
    _C.METHOD_NOT_ALLOWED: ErrorText("Method not allowed", "The `Allow` header lists the allowed methods."),
    _C.CONFLICT: ErrorText(
        "The resource's current state does not allow this", "Fetch the resource again. The detail names its state."
    ),
    _C.UNAUTHENTICATED: ErrorText(
        "An API key is required", "Send `Authorization: Bearer sk_…` with a key that is neither revoked nor expired."
    ),
    _C.FORBIDDEN: ErrorText(
        "You do not have permission to do this",
        "The detail names the scope that the key lacks, or the setting that denies access.",
    ),
    _C.HOST_REFUSED: ErrorText(
        "The service does not accept this host name",
        "Use a name that the operator has listed in `SECATEUR_ALLOWED_HOSTS`. Without API keys, use 127.0.0.1 or localhost.",
    ),
    _C.RATE_LIMITED: ErrorText("Too many requests", "Try again after the time in `Retry-After`."),
    _C.QUOTA_EXCEEDED: ErrorText(
        "The tenant's quota is used up",
        "`GET /v1/limits` shows the quotas and their usage. The detail says how to free some of the quota.",
    ),
    _C.EXPIRED: ErrorText(
        "This has expired and was removed",
        "Upload it again, or run the job again. The job's metrics are still available.",
    ),
    _C.DELETED: ErrorText(
        "This was deleted",
        "Its owner deleted it, or its retention period is over. It cannot be recovered.",
    ),
    _C.ARTIFACT_LOST: ErrorText(
        "A stored file is missing or damaged",
        "The file is in the server's records, but the artifact store has lost or damaged it. The operator may be able to restore "
        "it from a backup. Otherwise upload it again, or run the job again.",
    ),
    _C.IDEMPOTENCY_KEY_INVALID: ErrorText(
        "The `Idempotency-Key` is not valid",
        "Use 1 to 255 visible ASCII characters, with or without double quotes around them. A new UUID is best.",
    ),
    _C.IDEMPOTENCY_MISMATCH: ErrorText(
        "The `Idempotency-Key` was used for a different request",
        "Use a new key for a new request. Reuse a key only to send the same request again.",
    ),
    _C.IDEMPOTENCY_IN_PROGRESS: ErrorText(
        "The first request with this `Idempotency-Key` is still in progress",
        "Send it again after the time in `Retry-After`. Nothing is done twice.",
    ),
    _C.TOO_MANY_STREAMS: ErrorText(
        "Too many event streams are open",
        "Close one, or try again after the time in `Retry-After`. You can also read the events page by page.",
    ),
    _C.REQUEST_TOO_LARGE: ErrorText("The request is too large", "`GET /v1/limits` lists this server's limits."),
    _C.HEADERS_TOO_LARGE: ErrorText(
        "The request has too many headers",
        "At most 100 headers, 16 KiB in total, are accepted. Send only those you need.",
    ),
    _C.MEDIA_TYPE_REFUSED: ErrorText(
        "Unsupported media type",
        "Send JSON in UTF-8 with `Content-Type: application/json`. Send each file unchanged, as the body of its own PUT. "
        "Forms and compressed bodies are not accepted.",
    ),
    _C.TOO_SLOW: ErrorText(
        "The request arrived too slowly", "Nothing of it was kept. Send it again over a connection that does not stall."
    ),
    _C.RANGE_NOT_SATISFIABLE: ErrorText(
        "The range is outside the file", "The `Content-Range` header contains the file's size."
    ),
    _C.TUS_VERSION: ErrorText(
        "Resumable uploads require tus 1.0.0",
        "Send `Tus-Resumable: 1.0.0`. The `Tus-Version` header names this version, too.",
    ),
    _C.UNAVAILABLE: ErrorText("The service is temporarily unavailable", "Try again after the time in `Retry-After`."),
    _C.STORAGE_FULL: ErrorText(
        "The artifact store is full",
        "Partial writes are discarded. Try again after the operator has freed space. A job first waits and retries by itself.",
    ),
    _C.STORAGE_UNAVAILABLE: ErrorText(
        "The artifact store does not respond, or refused the request",
        "Try again. The store's response is in the operator's log. A job first waits and retries by itself.",
    ),
    _C.INTERNAL: ErrorText(
        "Internal server error", "Your request is not the cause. Try again, then contact the operator."
    ),
    _C.TARGET_REFUSED: ErrorText(
        "The server does not send requests to this address",
        "Use https and a host on the public internet, on one of the ports that the detail names. The detail says what was wrong.",
    ),
    _C.CHECKSUM_MISMATCH: ErrorText(
        "The file's SHA-256 does not match the declared one",
        "The data was discarded. Send the file again, or declare it again.",
    ),
    _C.PIECE_CHECKSUM_MISMATCH: ErrorText(
        "The chunk's checksum does not match `Upload-Checksum`", "The chunk was discarded. Send it again."
    ),
    _C.UPLOAD_OFFSET: ErrorText(
        "The upload offset does not match the file", "Send HEAD and continue from the `Upload-Offset` in the response."
    ),
    _C.FILE_TYPE_REFUSED: ErrorText(
        "This file type is not accepted",
        "Send weights as safetensors, data as parquet, and the rest as JSON or text. Convert pickle files (`.bin`, `.pt`) first.",
    ),
    _C.FILE_NAME_REFUSED: ErrorText(
        "The file name is not accepted", "Use one path segment of letters, digits, dots, dashes and underscores."
    ),
    _C.FILE_MISSING: ErrorText("A required file is missing", "Declare and upload the file that the detail names."),
    _C.FILE_UNEXPECTED: ErrorText(
        "A file does not belong to this upload", "Upload only declared files that the model family uses."
    ),
    _C.UPLOAD_CLOSED: ErrorText("The upload is complete and cannot be changed", "Start a new upload."),
    _C.UPLOAD_INCOMPLETE: ErrorText("The upload is not complete", "Send the missing files, then call `complete`."),
    _C.SAFETENSORS_INVALID: ErrorText(
        "The safetensors file is malformed",
        "Save it again with the safetensors library. The detail says where it is malformed.",
    ),
    _C.WEIGHTS_NOT_FINITE: ErrorText(
        "The weights contain NaN or infinity",
        "The detail names the tensor. Use a checkpoint from before the training diverged.",
    ),
    _C.CONFIG_INVALID: ErrorText("config.json is not valid", "The detail names the key."),
    _C.CODE_REFUSED: ErrorText(
        "Checkpoints that contain code are not accepted",
        "Remove `auto_map` and other keys that refer to code, and use a stock class.",
    ),
    _C.ARCHITECTURE_UNSUPPORTED: ErrorText(
        "This architecture is not supported", "`GET /v1/limits` lists the supported families."
    ),
    _C.WEIGHTS_MISMATCH: ErrorText(
        "The weights do not match config.json", "Tensor names and shapes must be those that config.json describes."
    ),
    _C.MODEL_FETCH_FAILED: ErrorText(
        "The model could not be fetched",
        "Check the id and revision, or the bucket and prefix. The detail names the file or the rule. Or upload the files.",
    ),
    _C.STEP_NOT_PRUNABLE: ErrorText(
        "The step cannot be pruned further",
        "Only older servers report this, for steps whose `stock_layout` is false. Use a newer server for such a step.",
    ),
    _C.DATASET_EMPTY: ErrorText(
        "The dataset has too few rows", "Every split that is used needs at least two rows. The detail names the split."
    ),
    _C.DATASET_SCHEMA: ErrorText(
        "The dataset's columns cannot be used",
        "It needs a column for the model's input (audio or images with their bytes inside, texts, lists of words) and one for "
        "its output (labels, tags, transcripts, answers; none for embeddings, hidden states and masked words). Name them in "
        "`columns` if they are ambiguous.",
    ),
    _C.LABELS_MISMATCH: ErrorText(
        "The dataset's labels do not match the checkpoint's",
        "Labels are matched by name with `id2label`. The error contains both lists.",
    ),
    _C.AUDIO_UNDECODABLE: ErrorText(
        "A recording cannot be decoded", "Use wav, flac, ogg or mp3. The detail names the row. Remove or re-encode it."
    ),
    _C.IMAGE_UNDECODABLE: ErrorText(
        "An image cannot be decoded",
        "Use PNG, JPEG, WebP, GIF or BMP. The detail names the row. Remove or re-encode it.",
    ),
    _C.DATASET_FETCH_FAILED: ErrorText(
        "The dataset could not be fetched",
        "Check the repository and revision. Private repositories are not accessible.",
    ),
    _C.SPARSITY_OUT_OF_REACH: ErrorText(
        "The target cannot be reached",
        "The error gives the maximum, or the smallest possible cut. Ask for less or more, or use a finer granularity.",
    ),
    _C.WIDTH_MISALIGNED: ErrorText(
        "The head width is not a multiple of `align`", "Use a smaller `align`. The detail gives the width."
    ),
    _C.NO_CHECKPOINT: ErrorText(
        "The job has no such checkpoint", "List the job's checkpoints. A step is listed when it is complete."
    ),
    _C.ORIGINAL_MISMATCH: ErrorText(
        "The engine reads the checkpoint differently from transformers",
        "Nothing was pruned. Load the model with transformers, save it with `save_pretrained`, and upload the result.",
    ),
    _C.RELOAD_MISMATCH: ErrorText(
        "The saved checkpoint did not reproduce the logits",
        "The job was stopped so that you do not get a wrong model. Please report it with the job's id.",
    ),
    _C.EXPORT_UNAVAILABLE: ErrorText(
        "The worker cannot write this export",
        "Leave `exports` out, or ask the operator to install the extra: `pip install 'secateur[export]'` for ONNX, "
        "`'secateur[torchao]'` for torchao's formats.",
    ),
    _C.EXPORT_FAILED: ErrorText(
        "The export failed, or does not reproduce the checkpoint's logits",
        "Leave `exports` out to get only the checkpoint, and please report it with the job's id.",
    ),
    _C.NUMERICAL: ErrorText(
        "A value became infinite or NaN", "Lower the learning rate, or check the weights and the data."
    ),
    _C.OUT_OF_MEMORY: ErrorText(
        "The worker ran out of memory",
        "The job was retried with half as many samples at a time. Lower `finetune.batch_size`, `pruning.calibration` and "
        "`evaluate.batch_size`, or use a larger worker.",
    ),
    _C.SCRATCH_FULL: ErrorText(
        "The worker's disk is full", "Try again later. The operator has to give the worker more scratch space."
    ),
    _C.STALLED: ErrorText(
        "The engine sent nothing for too long and was stopped",
        "It was retried and stalled again. `GET /v1/jobs/{id}/logs` shows how far it got.",
    ),
    _C.MAX_RUNTIME: ErrorText(
        "The job ran for longer than its `limits.max_runtime`",
        "You can download its completed steps. Submit it again with a higher limit, fewer steps or fewer epochs.",
    ),
    _C.ENGINE_CRASHED: ErrorText(
        "The engine process crashed",
        "It was retried and crashed again. `GET /v1/jobs/{id}/logs` and the operator's log contain the reason.",
    ),
    _C.ENGINE_ERROR: ErrorText(
        "Unexpected error in the engine", "The operator's log contains the traceback. Please report it."
    ),
    _C.INPUT_LOST: ErrorText("An input of the job is missing", "Upload it again and submit a new job."),
}
