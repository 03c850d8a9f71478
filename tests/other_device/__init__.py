"""Runs on a device that is not the CPU to torch, though it computes there."""
