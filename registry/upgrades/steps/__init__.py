"""The steps of an upgrade, a module each. Each step is idempotent; :mod:`flows.upgrade` decides when and in which order."""
