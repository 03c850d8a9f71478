"""Statistics of per-sample gradients, from their factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mnist_exp.files.atomic import finite
from mnist_exp.gradients.factors import SampleGradients

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class GradientMoments:
    """First and second moments of the gradients, summed batch by batch.

    Each group of samples has its own mean. All samples are one group if their gradients are taken
    at the same weights; otherwise each training batch is a group. Variances are about the group's
    mean, averaged over the samples.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]):
        self.names = list(shapes)
        self.num_samples = 0
        self._squared_norms = dict.fromkeys(self.names, 0.0)
        self._squared_means = dict.fromkeys(self.names, 0.0)
        self._sums = {n: torch.zeros(*s, dtype=torch.float64) for n, s in shapes.items()}
        self._group_sums = {n: torch.zeros(*s, dtype=torch.float64) for n, s in shapes.items()}
        self._group_size = 0

    def add(self, gradients: Mapping[str, SampleGradients]) -> Tensor:
        """Add B samples to the current group; return their squared norms [B, parameters]."""
        columns = []
        for name in self.names:
            squared = gradients[name].squared_norms()
            columns.append(squared)
            self._squared_norms[name] += squared.cpu().double().sum().item()
            self._group_sums[name] += gradients[name].sum().cpu()
        self._group_size += len(columns[0])
        return torch.stack(columns, dim=1)

    def end_group(self) -> dict[str, Tensor]:
        """Close the group and return its mean gradient, float64."""
        means = {name: total / self._group_size for name, total in self._group_sums.items()}
        for name in self.names:
            self._squared_means[name] += self._group_size * means[name].square().sum().item()
            self._sums[name] += self._group_sums[name]
            self._group_sums[name].zero_()
        self.num_samples += self._group_size
        self._group_size = 0
        return means

    def means(self) -> dict[str, Tensor]:
        """Return the mean gradient over all samples, float64."""
        return {name: total / self.num_samples for name, total in self._sums.items()}

    def signal_and_noise(self, names: Sequence[str]) -> dict[str, float | None]:
        """Compute the mean gradient's norm and the gradients' spread over samples.

        ``variance`` is the trace of the covariance, E|g|^2 - |E g|^2; ``noise_scale`` =
        variance / |E g|^2 is the simple noise scale, in samples, of McCandlish et al., "An
        empirical model of large-batch training", 2018, arXiv:1812.06162, eq. 2.9; the
        signal-to-noise ratio ``snr`` is its inverse.
        """
        signal = sum(self._squared_means[name] for name in names) / self.num_samples
        power = sum(self._squared_norms[name] for name in names) / self.num_samples
        variance = max(power - signal, 0.0) if math.isfinite(power) else math.nan
        return {
            "mean_gradient_norm": math.sqrt(signal),
            "variance": variance,
            "snr": signal / variance if variance else None,
            "noise_scale": variance / signal if signal else None,
        }


class HasInner(Protocol):
    """Gradients of a parameter, in memory or in a file."""

    def inner(self, direction: Tensor) -> Tensor:
        """Compute each sample's inner product with ``direction`` [*P], [B]."""


def cosines(
    gradients: Mapping[str, HasInner], means: Mapping[str, Tensor], norms: Tensor
) -> Tensor:
    """Compute the cosine between each sample's gradient and the mean gradient.

    Parameters
    ----------
    gradients
        Gradients of B samples, by parameter.
    means
        The mean gradient of each parameter.
    norms
        The samples' norms over all parameters, [B].

    Returns
    -------
    Tensor
        [B]; 0 for a sample whose gradient is zero.
    """
    products = torch.zeros_like(norms)
    for name, mean in means.items():
        products += gradients[name].inner(mean.to(norms))
    length = math.sqrt(sum(mean.square().sum().item() for mean in means.values()))
    return products / (norms * length).clamp(min=torch.finfo(norms.dtype).tiny)


def summarize(
    moments: GradientMoments,
    *,
    norms: Tensor,
    losses: Tensor,
    labels: Tensor,
    sample_ids: Tensor,
    predictions: Tensor,
    cosine: Tensor | None,
    top_k: int,
) -> dict[str, Any]:
    """Summarize the gradients of N samples in plain JSON values.

    Parameters
    ----------
    moments
        Moments of the N samples.
    norms
        [N, parameters], in the order of ``moments.names``.
    losses, labels, sample_ids, predictions, cosine
        [N] each.
    top_k
        How many samples with the largest norm to list, hardest first. Source of the norm as a
        difficulty score (GraNd): Paul et al., "Deep learning on a data diet", 2021,
        arXiv:2107.07075.
    """
    total = norms.square().sum(1).sqrt()
    hardest = total.nan_to_num(nan=math.inf).topk(min(top_k, len(total))).indices
    described: dict[str, Any] = {
        "num_samples": moments.num_samples,
        "loss": distribution(losses),
        "total": {
            "norm": distribution(total),
            "cosine_with_mean": None if cosine is None else distribution(cosine),
            **moments.signal_and_noise(moments.names),
        },
        "layers": _of_layers(moments, norms),
        "parameters": {
            name: {"norm": distribution(norms[:, i]), **moments.signal_and_noise([name])}
            for i, name in enumerate(moments.names)
        },
        "classes": {
            str(label): {"norm": distribution(total[labels == label])}
            for label in labels.unique().tolist()
        },
        "hardest": [
            {
                "sample_id": int(sample_ids[row]),
                "label": int(labels[row]),
                "predicted": int(predictions[row]),
                "norm": total[row].item(),
                "loss": losses[row].item(),
            }
            for row in hardest.tolist()
        ],
    }
    return dict(finite(described))


def _of_layers(moments: GradientMoments, norms: Tensor) -> dict[str, dict[str, Any]]:
    columns: dict[str, list[int]] = {}
    for column, name in enumerate(moments.names):
        columns.setdefault(name.rpartition(".")[0] or "model", []).append(column)
    return {
        layer: {
            "norm": distribution(norms[:, own].square().sum(1).sqrt()),
            **moments.signal_and_noise([moments.names[column] for column in own]),
        }
        for layer, own in columns.items()
    }


def distribution(values: Tensor) -> dict[str, float]:
    """Return count, mean, standard deviation, extremes and quantiles of values [N]."""
    values = values.double()
    quantiles = values.quantile(torch.tensor(QUANTILES, dtype=values.dtype))
    return {
        "count": len(values),
        "mean": values.mean().item(),
        "std": values.std(correction=0).item(),
        "min": values.min().item(),
        **{f"p{100 * q:g}": v.item() for q, v in zip(QUANTILES, quantiles, strict=True)},
        "max": values.max().item(),
    }


def metrics(statistics: dict[str, Any], *, seconds: float | None) -> dict[str, float]:
    """Pick the statistics that become metrics of an epoch."""
    total = statistics["total"]
    cosine = total["cosine_with_mean"] or {}
    values = {
        "gradient_norm_mean": total["norm"]["mean"],
        "gradient_norm_median": total["norm"]["p50"],
        "gradient_norm_max": total["norm"]["max"],
        "mean_gradient_norm": total["mean_gradient_norm"],
        "gradient_snr": total["snr"],
        "gradient_cosine_mean": cosine.get("mean"),
        "gradient_seconds": seconds,
    }
    return {name: value for name, value in values.items() if value is not None}
