"""The race on a sentence encoder pretrained at scale."""
