from collections.abc import Iterator

import pytest
from gates_sample import JUDGED

from registry.verdicts import declaration


@pytest.fixture(scope="module")
def made_up() -> Iterator[None]:
    """Verdicts of the gates alone that :mod:`gates_sample` has values for."""
    chosen = {name: gate for name, gate in declaration.declared().items() if name in JUDGED}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(declaration, "declared", lambda: chosen)
        yield
