"""From mel to audio: Vocos in three runtimes, BigVGAN."""
