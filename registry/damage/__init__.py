"""Files that are not what was recorded: found, and made again."""
