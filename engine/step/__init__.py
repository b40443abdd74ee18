"""One evaluation of the model: the rewritten DiT and UNetT, attention, precision passes, packed weights."""
