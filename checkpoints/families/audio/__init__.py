"""Families that listen: to waveforms, to spectrograms."""
