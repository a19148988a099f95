"""Audio families: waveform and spectrogram models."""
