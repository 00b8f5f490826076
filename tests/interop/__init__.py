"""bgpbfd against real daemons in network namespaces."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.star")
