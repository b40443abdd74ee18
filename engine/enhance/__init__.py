"""What is done to the sound after the vocoder and the joins: noise, silences, sibilants. A stage of its own."""
