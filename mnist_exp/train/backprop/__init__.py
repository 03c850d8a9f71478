"""Loss and gradients of a batch: one way a file; `choose` picks the fastest. Imports cpu."""
