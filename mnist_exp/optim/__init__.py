"""Optimizers that ``torch.optim`` does not have."""

from mnist_exp.optim.asymmetric_sgd import AsymmetricSGD, asymmetric_update

__all__ = ["AsymmetricSGD", "asymmetric_update"]
