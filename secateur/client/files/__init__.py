"""File transfers: checkpoints and data are found and packed, sent in pieces, downloaded and checked."""
