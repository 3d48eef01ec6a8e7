import pytest

from toolkits.environments import Environment


@pytest.fixture
def environment():
    """`environment("vot")`: an environment of its own, or skip."""

    def get(name):
        found = Environment(name)
        if not found.python.exists():
            pytest.skip(f"no environment for {name}; make test-toolkits builds it")
        return found

    return get
