"""What a kind of model is to the harness, beside its engines; and F5-TTS as the first of them."""
