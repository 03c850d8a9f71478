"""Plots of runs, devices, sweeps and gradients. Imports run and the packages below it."""
