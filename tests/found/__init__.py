"""What was found once, and what shows that it is gone: a TOML file a point (:mod:`tests.found.points`), and the run that takes each fix back."""
