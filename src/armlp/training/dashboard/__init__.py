"""Everything that TensorBoard shows besides the scalars that the module logs itself."""

from armlp.training.dashboard.fitting import Dashboard
from armlp.training.dashboard.testing import TestDashboard

__all__ = ["Dashboard", "TestDashboard"]
