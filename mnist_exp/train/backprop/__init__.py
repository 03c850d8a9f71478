"""Loss and gradients of a batch, one method per file; `choose` picks the fastest. Imports cpu."""
