"""Files on their way: checkpoints and data found and packed, sent in pieces, downloaded and checked."""
