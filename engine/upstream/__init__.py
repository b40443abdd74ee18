"""The untouched f5_tts pipeline behind the contract: the peer to beat."""
