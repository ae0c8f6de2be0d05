"""The gallery that serves, for engines that people already run."""
