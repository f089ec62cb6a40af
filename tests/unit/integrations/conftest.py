"""Every kind of model that takes an encoding."""

import pytest

from support.host import CASES


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]
