"""The README's example on vectors runs as it stands."""

import contextlib
import io
from pathlib import Path

README = Path(__file__).parents[3] / "README.md"


def test_the_example_on_vectors_runs_and_h_recovers_most():
    text = README.read_text(encoding="utf-8")
    start = text.index("```python\nimport numpy as np\nimport fct") + len("```python\n")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(text[start : text.index("```", start)], "README.md", "exec"), {})
    rows = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in said.getvalue().splitlines()}
    assert rows.keys() == {"new/h(old)", "new/new"}
    assert 0.8 * rows["new/new"][1] < rows["new/h(old)"][1] <= 1.0
