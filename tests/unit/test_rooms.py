"""Allow-lists beside .importlinter's deny-lists: a library that nobody thought of forbidding is noticed as well."""

import sys

import grimp
import pytest

ALLOWED = {
    "api_schemas": {"pydantic", "pydantic_core"},  # two halves of one library
    "checkpoints": {"pydantic", "pydantic_core"},
    "store": {
        *(
            "pydantic",
            "pydantic_settings",
            "sqlalchemy",
            "alembic",
            "psycopg",
            "celery",
            "kombu",
            "obstore",
            "pyarrow",
            "soundfile",
            "PIL",
            "numpy",
            "psutil",
            "pyseccomp",
            "httpx",
            "httpcore",
            "standardwebhooks",
            "structlog",
            "opentelemetry",  # comes with an extra
        ),
    },
    "worker.engine": {
        *("pydantic", "torch", "torchaudio", "transformers", "peft", "datasets", "safetensors", "huggingface_hub"),
        "tokenizers",  # a part of transformers
        *("accelerate", "numpy", "pyarrow", "soundfile", "soxr", "matplotlib", "jinja2", "markupsafe", "PIL"),
        *(
            "onnx",
            "onnxruntime",
            "torchao",
        ),  # imported where an export is made, and nowhere else: they come with extras
    },
}


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_uses_only_the_libraries_agreed_for_it(room: str) -> None:
    graph = grimp.build_graph(room.partition(".")[0], include_external_packages=True, cache_dir=None)
    modules = {name for name in graph.modules if name == room or name.startswith(f"{room}.")}
    used = {
        imported.partition(".")[0] for name in modules for imported in graph.find_modules_directly_imported_by(name)
    }
    rooms = {"api_schemas", "checkpoints", room.partition(".")[0]}
    assert modules
    assert used - rooms - set(sys.stdlib_module_names) <= ALLOWED[room]
