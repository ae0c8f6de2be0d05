"""What h is fitted and judged on, and what is measured there: pairs, trials, curves, thresholds."""
