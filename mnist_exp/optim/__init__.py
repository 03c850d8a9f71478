"""Optimizers missing from ``torch.optim``, or limited there to other layers."""

from mnist_exp.optim.asymmetric_sgd import AsymmetricSGD, asymmetric_update
from mnist_exp.optim.muon import Muon, orthogonalize

__all__ = ["AsymmetricSGD", "Muon", "asymmetric_update", "orthogonalize"]
