"""Every kind of model that takes an encoding."""

import pytest

from host_support import CASES


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]
