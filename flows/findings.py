"""What fct doctor says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import asdict, dataclass

FINE, ATTENTION, WRONG = "fine", "attention", "wrong"


@dataclass(frozen=True)
class Finding:
    """What one check found: ``outcome`` is fine, attention or wrong; ``todo`` says what to do."""

    check: str
    outcome: str
    said: str
    todo: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)
