"""The gallery: real runs, made before the site is built, and a page of their pictures.

``python docs/site/gallery.py`` trains for a minute and leaves the runs in ``build/gallery``.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

RUNS = Path(__file__).parents[2] / "build" / "gallery"
INTRODUCTION = """# Gallery

The build of this site ran these commands and took the pictures from their run directories.
Capitals such as `RUN_DIR` stand for the directory of the run above.
"""


@dataclass(frozen=True)
class Exhibit:
    """Commands, where the gallery keeps what they write, and pictures with a sentence each."""

    title: str
    commands: list[str]
    directory: str
    pictures: dict[str, str]
    into: list[str] = field(default_factory=list)  # settings that lead the run there

    def run(self) -> None:
        """Run the commands in the gallery's directory."""
        for command in self.commands:
            words = shlex.split(command.replace("RUN_DIR", self.directory))[1:]
            subprocess.run([sys.executable, *words, *self.into], cwd=RUNS, check=True)


EXHIBITS = [
    Exhibit(
        "One epoch of cnn21k",
        ["python -m mnist_exp model=cnn21k"],
        "cnn21k",
        {
            "plots/predictions.png": "Test images with their predictions, wrong ones in orange.",
            "plots/confusion_matrix.png": "Which digit is taken for which.",
            "plots/training_curves.png": "Loss and accuracy over the epoch's steps.",
            "plots/augmented_samples.png": "Training images as the network sees them.",
        },
        ["hydra.run.dir=cnn21k"],
    ),
    Exhibit(
        "A network on memristors, with the gradient of each image",
        [
            "python -m mnist_exp model=mlp100 constraint=memristor cv=holdout training.epochs=3 "
            "gradients=epoch gradients.max_samples=2000"
        ],
        "memristor",
        {
            "plots/device_levels.png": "Where the conductances are, over the 100 levels.",
            "plots/device_shares.png": "Updates rounded away, and devices at their bounds.",
            "plots/gradient_norms_by_class.png": "The size of the gradient, class by class.",
            "plots/gradient_hardest_samples.png": "The images with the largest gradients.",
        },
        ["hydra.run.dir=memristor"],
    ),
    Exhibit(
        "The same network, a second to a year after programming",
        ["python -m mnist_exp evaluate-device RUN_DIR evaluation=pcm evaluation.repetitions=5"],
        "memristor",
        {"device_evaluation.png": "Accuracy as phase-change memory drifts, five programmings."},
    ),
    Exhibit(
        "A sweep of both learning rates",
        [
            "python -m mnist_exp -m model=mlp100 constraint=memristor cv=holdout data.subset=10000 "
            "training.epochs=1 optimizer.lr_pos=0.05,0.1,0.2 optimizer.lr_neg=0.05,0.1,0.2"
        ],
        "sweep",
        {"sweep.png": "Test accuracy over both rates; validation images choose the frame."},
        ["hydra.sweep.dir=sweep"],
    ),
    Exhibit(
        "A device fitted to a measurement",
        [
            "python -m mnist_exp fit-device my_device.csv --example",
            "python -m mnist_exp fit-device my_device.csv --name my_device",
        ],
        "conf/constraint",
        {"my_device.png": "Readings, the fitted curve and its residuals."},
    ),
]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the page and its pictures."""
    parts = [INTRODUCTION]
    for exhibit in EXHIBITS:
        commands = "\n".join(exhibit.commands)
        parts.append(f"## {exhibit.title}\n\n```bash\n{commands}\n```\n")
        for name, sentence in exhibit.pictures.items():
            path = RUNS / exhibit.directory / name
            if not path.is_file():
                raise PluginError(f"{path} is missing; make docs runs {Path(__file__).name} first")
            uri = f"gallery/{exhibit.directory}/{path.name}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
            parts.append(f"{sentence}\n\n![{sentence}]({uri})\n")
    files.append(File.generated(config, "gallery.md", content="\n".join(parts)))


def main() -> None:
    """Run every command of the gallery, from nothing."""
    shutil.rmtree(RUNS, ignore_errors=True)
    RUNS.mkdir(parents=True)
    for exhibit in EXHIBITS:
        exhibit.run()


if __name__ == "__main__":
    main()
