"""The format of a checkpoint's data: folders and splits, columns, limits of clips, images and texts."""
