"""Per-sample gradients: collected in one pass, stored as factors, read back on demand.

::

    from mnist_exp import gradients

    epoch = gradients.open("outputs/<run>/gradients/epoch_1")
    epoch.norms()                       # [num_samples]
    epoch["network.0.weight"][:10]      # builds 10 gradients, [10, 512, 784]
    epoch["network.0.weight"].gram([1, 2, 3])

Imports from plots, run, train and the rooms below them.
"""

from mnist_exp.gradients.collection import collect
from mnist_exp.gradients.collector import GradientCollector
from mnist_exp.gradients.disk_space import disk_bytes
from mnist_exp.gradients.parameter_gradients import ParameterGradients
from mnist_exp.gradients.per_sample import BatchGradients, PerSampleModel
from mnist_exp.gradients.preparation import CollectionSettings
from mnist_exp.gradients.samples import Samples
from mnist_exp.gradients.stored import StoredGradients, open

__all__ = [
    "BatchGradients",
    "CollectionSettings",
    "GradientCollector",
    "ParameterGradients",
    "PerSampleModel",
    "Samples",
    "StoredGradients",
    "collect",
    "disk_bytes",
    "open",
]
