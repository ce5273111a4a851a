"""The builder: from the old table, shares and server states to the next table. Pure."""

from controlplane.builder.build import build
from controlplane.builder.occupancy import Occupancy
from controlplane.builder.request import BuildRequest, BuildResult, NoServerLeft, PoolChanged

__all__ = ["BuildRequest", "BuildResult", "NoServerLeft", "Occupancy", "PoolChanged", "build"]
