"""What a checkpoint's data looks like: folders and splits, columns, bounds of clips, images and texts."""
