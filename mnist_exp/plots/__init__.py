"""Pictures of runs, devices, sweeps and gradients. Imports run and what lies below it."""
