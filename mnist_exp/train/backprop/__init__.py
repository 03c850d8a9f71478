"""Loss and gradients of a batch: a way a file, and `choose`, which picks the fastest. Imports cpu."""
