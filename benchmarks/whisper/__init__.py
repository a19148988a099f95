"""A real Whisper, cut: wrong words, speed and encoder parameters, beside LiteASR's low-rank encoder."""
