"""Which sentences are spoken by which voice, and the requests made of them."""
