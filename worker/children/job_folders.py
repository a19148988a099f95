"""The folders of one job, all below one folder that is removed at its end."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JobFolders:
    """Folders of one job: what the engine is told on its command line."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def training(self) -> Path:
        return self.root / "training.safetensors"

    @property
    def spec(self) -> Path:
        return self.root / "spec.json"
