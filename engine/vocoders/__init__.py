"""From mel to audio: Vocos in four runtimes, BigVGAN."""
