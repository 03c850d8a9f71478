"""The statistics equal those computed from all gradients, built one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnist_exp import gradients
from mnist_exp.data import Dataset
from mnist_exp.errors import UserError
from mnist_exp.gradients import collect
from mnist_exp.models import CNN21k
from tests.helpers.gradient_samples import (
    collection_settings,
    flat,
    gradients_one_at_a_time,
    samples_of,
    small_network,
)

IDS = torch.arange(100, 140)


def networks() -> list[nn.Module]:
    torch.manual_seed(0)
    return [small_network(), CNN21k(num_classes=10)]


@pytest.fixture(params=[0, 1], ids=["mlp", "cnn21k"])
def case(
    request: pytest.FixtureRequest, mnist: Dataset, tmp_path: Path
) -> tuple[dict[str, Any], dict[str, Tensor], Path]:
    """A collection's statistics, reference gradients built one at a time, and its directory."""
    model = networks()[request.param]
    samples = samples_of(mnist, IDS)
    statistics = collect(model, samples, tmp_path, collection_settings(), epoch=1)
    return statistics, gradients_one_at_a_time(model, samples), tmp_path / "epoch_1"


def test_norms_mean_variance_and_noise(case: Any) -> None:
    statistics, slow, _ = case
    groups = {
        "total": (statistics["total"], list(slow)),
        **{name: (values, [name]) for name, values in statistics["parameters"].items()},
    }
    for layer, values in statistics["layers"].items():
        groups[f"layer {layer}"] = (values, [n for n in slow if n.rpartition(".")[0] == layer])
    for values, names in groups.values():
        rows = flat({name: slow[name] for name in names})
        norms, mean = rows.norm(dim=1), rows.mean(0)
        variance = rows.var(0, correction=0).sum().item()
        signal = mean.square().sum().item()
        assert values["norm"]["mean"] == pytest.approx(norms.mean().item(), rel=1e-5)
        assert values["norm"]["p50"] == pytest.approx(norms.quantile(0.5).item(), rel=1e-5)
        assert values["norm"]["max"] == pytest.approx(norms.max().item(), rel=1e-5)
        assert values["mean_gradient_norm"] == pytest.approx(mean.norm().item(), rel=1e-5)
        assert values["variance"] == pytest.approx(variance, rel=1e-5)
        assert values["snr"] == pytest.approx(signal / variance, rel=1e-4)
        assert values["noise_scale"] == pytest.approx(variance / signal, rel=1e-4)


def test_cosines_with_the_mean(case: Any) -> None:
    _, slow, path = case
    rows = flat(slow)
    expected = torch.cosine_similarity(rows, rows.mean(0, keepdim=True))
    torch.testing.assert_close(
        gradients.open(path).cosines().double(), expected, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("form", ["factored", "dense", "statistics"])
def test_cosines_can_be_had_later_from_the_gradients(
    form: str, mnist: Dataset, tmp_path: Path
) -> None:
    for epoch, cosine in ((1, True), (2, False)):
        settings = collection_settings(format=form, cosine=cosine)
        collect(small_network(), samples_of(mnist, IDS), tmp_path, settings, epoch=epoch)
    collected, later = (gradients.open(tmp_path / f"epoch_{epoch}") for epoch in (1, 2))
    assert later.statistics["total"]["cosine_with_mean"] is None
    if form == "statistics":
        with pytest.raises(UserError, match="holds statistics only, without cosines"):
            later.cosines()
    else:
        torch.testing.assert_close(later.cosines(), collected.cosines(), atol=1e-6, rtol=1e-5)


def test_mean_gradient_is_stored(case: Any) -> None:
    _, slow, path = case
    for name, mean in gradients.open(path).mean().items():
        torch.testing.assert_close(mean, slow[name].mean(0), atol=1e-6, rtol=1e-4)


def test_hardest_samples_and_classes(case: Any, mnist: Dataset) -> None:
    statistics, slow, _ = case
    norms = flat(slow).norm(dim=1)
    hardest = statistics["hardest"]
    assert [s["sample_id"] for s in hardest] == IDS[norms.topk(5).indices].tolist()
    assert [s["norm"] for s in hardest] == pytest.approx(norms.topk(5).values.tolist(), rel=1e-5)
    labels = mnist.labels[IDS]
    assert [s["label"] for s in hardest] == mnist.labels[IDS[norms.topk(5).indices]].tolist()
    for label, values in statistics["classes"].items():
        chosen = norms[labels == int(label)]
        assert values["norm"]["count"] == len(chosen)
        assert values["norm"]["mean"] == pytest.approx(chosen.mean().item(), rel=1e-5)
    assert sum(v["norm"]["count"] for v in statistics["classes"].values()) == len(IDS)


def test_losses_are_the_samples_own(case: Any, mnist: Dataset) -> None:
    _, _, path = case
    stored = gradients.open(path)
    assert torch.equal(stored.labels, mnist.labels[IDS])
    assert stored.statistics["loss"]["mean"] == pytest.approx(stored.losses.mean().item(), rel=1e-5)


def test_label_smoothing_belongs_to_the_loss(mnist: Dataset, tmp_path: Path) -> None:
    samples = samples_of(mnist, IDS)
    model = small_network()
    settings = collection_settings(label_smoothing=0.1)
    collect(model, samples, tmp_path, settings, epoch=1)
    images, labels, _ = samples.rows(0, len(IDS))
    expected = nn.functional.cross_entropy(
        model(samples.prepare(images)), labels, label_smoothing=0.1, reduction="none"
    )
    torch.testing.assert_close(gradients.open(tmp_path / "epoch_1").losses, expected.detach())


def test_working_memory_changes_nothing_but_the_pace(mnist: Dataset, tmp_path: Path) -> None:
    """With 1 MiB the 300 samples take several batches, with 256 MiB one."""
    norms = []
    for memory in (1, 256):
        settings = collection_settings(working_memory=memory)
        samples = samples_of(mnist, torch.arange(300))
        collect(small_network(), samples, tmp_path, settings, epoch=memory)
        norms.append(gradients.open(tmp_path / f"epoch_{memory}").norms())
    torch.testing.assert_close(norms[0], norms[1])


def test_a_network_gone_astray_is_reported_as_null(mnist: Dataset, tmp_path: Path) -> None:
    """JSON has no NaN, and the file must stay readable to diagnose the failure."""
    model = small_network()
    with torch.no_grad():
        model.get_parameter("network.0.weight").fill_(float("nan"))
    collect(model, samples_of(mnist, IDS), tmp_path, collection_settings(), epoch=1)
    content = (tmp_path / "epoch_1" / "gradient_stats.json").read_text()
    assert json.loads(content)["total"]["norm"]["mean"] is None


def test_one_sample_alone(mnist: Dataset, tmp_path: Path) -> None:
    """Its gradient is the mean, so the variance is 0 and the cosine 1."""
    statistics = collect(
        small_network(), samples_of(mnist, IDS[:1]), tmp_path, collection_settings(), epoch=1
    )
    assert statistics["total"]["cosine_with_mean"]["mean"] == pytest.approx(1, abs=1e-5)
    assert statistics["total"]["variance"] == pytest.approx(
        0, abs=1e-5 * statistics["total"]["norm"]["mean"] ** 2
    )
