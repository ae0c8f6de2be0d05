"""The data stage: from icon packs or a folder of images to a manifest of splits."""
