"""The gates, a module each; its name is the gate's. It declares ``GATE``, an :class:`registry.verdicts.declaration.OfSample` or ``OfGallery``."""
