"""Settings of a collection, and the model prepared for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mnist_exp.errors import UserError
from mnist_exp.files.names import check_plain_name
from mnist_exp.gradients.layout import Layout, dense_layout, factored_layout
from mnist_exp.gradients.per_sample import BatchGradients, PerSampleModel
from mnist_exp.gradients.samples import Samples, pixel_values, replayed_randomness
from mnist_exp.schema.gradient_parts import COLLECTION
from mnist_exp.schema.rule import check_settings

# More samples at once are no faster: the matrix products are large enough.
MAX_ROWS = 2048


@dataclass(frozen=True)
class CollectionSettings:
    """What to collect and how; the keys of ``conf/gradients``.

    Parameters
    ----------
    parameters
        Shell patterns of parameter names; None: all trainable ones.
    format
        ``factored``, ``dense`` (the gradients themselves) or ``statistics`` (no gradients).
    dtype
        Type of the stored gradients or factors: ``float32``, ``float16`` or ``bfloat16``.
    dropout
        Whether dropout acts as in training, with the same masks in each pass over the samples.
    label_smoothing
        Of the cross-entropy, 0 <= s < 1.
    cosine
        Whether to compute each gradient's cosine with the mean one, in a second pass.
    top_k
        How many of the hardest samples to list.
    working_memory
        MiB of activations held at once; limits the samples that go through the network together.
    seed
        Seed of dropout and augmentation during collection.
    one_moment
        Whether all gradients are taken at the same weights, so that factors of hidden layers can
        be computed from others instead of stored.
    """

    parameters: Sequence[str] | None
    format: str
    dtype: str
    dropout: bool
    label_smoothing: float
    cosine: bool
    top_k: int
    working_memory: int
    seed: int
    one_moment: bool = True

    def __post_init__(self) -> None:
        check_settings(COLLECTION, vars(self), "gradients")


class Preparation:
    """A model's per-sample copy, and the layout its gradients take on disk."""

    def __init__(self, model: nn.Module, samples: Samples, settings: CollectionSettings):
        if not len(samples):
            raise UserError("There are no samples to collect gradients of; give at least one.")
        self.settings = settings
        self.device = next(model.parameters()).device
        images, labels, _ = samples.rows(0, 2)
        if len(images) == 1:  # a single sample does not show which dimension is the batch
            images, labels = images.repeat(2, *[1] * (images.ndim - 1)), labels.repeat(2)
        with replayed_randomness(self.device, settings.seed):
            inputs = samples.prepare(images)
            self.model = PerSampleModel(
                model,
                inputs,
                parameters=settings.parameters,
                dropout=settings.dropout,
                label_smoothing=settings.label_smoothing,
            )
            example = self.model(inputs, labels)
        for name in self.model.shapes:
            check_plain_name(name, "the name of a parameter, which becomes a file's,")
        self.pixels = pixel_values(samples) if settings.format == "factored" else None
        self.layout = self._layout(example, inputs, settings)
        memory = settings.working_memory * 2**20
        self.rows = min(MAX_ROWS, max(1, memory // self.model.sample_bytes))

    def _layout(
        self, example: BatchGradients, inputs: Tensor, settings: CollectionSettings
    ) -> Layout:
        shapes = self.model.shapes
        if settings.format == "statistics":
            return Layout((), ())
        if settings.format == "dense":
            return dense_layout(shapes, settings.dtype)
        layout = factored_layout(
            example.gradients,
            shapes,
            inputs=inputs,
            pixels=self.pixels is not None,
            dtype=settings.dtype,
        )
        # in 16 bits, small inputs may round to 0 and errors add up
        exact = settings.dtype == "float32"
        return layout.derive(self.model.following()) if exact and settings.one_moment else layout
