"""The generated pages are what the source says now."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def generate():
    spec = spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["docs_generate"] = module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_no_page_is_stale(generate):
    assert generate.stale() == [], "run: python docs/generate.py"


def test_every_rfc_with_a_title_is_cited(generate):
    assert set(generate.TITLES) == set(generate._citations())


def test_every_stage_and_every_pair_of_the_matrix_is_told(generate):
    page = generate.stages_page()
    for name in generate.STAGES:
        assert f"### {name}\n" in page
    rows = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 5]
    assert sum(any(line.startswith(f"| `{kind.__name__}` ") for kind in generate.VERDICTS) for line in rows) == len(
        generate.EFFECTS
    )
