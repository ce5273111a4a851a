"""A plan that somebody asks for: whether it can be made, and what the guards would answer."""

from __future__ import annotations

from controlplane.decide.plan.objects import Kind, Plan
from controlplane.domain.errors import BrigadeError, ExitCode
from controlplane.domain.history import EventKind, Foreseen
from controlplane.domain.objects import IN_USE, SERVING, Cluster
from controlplane.operator.drain import known_server
from controlplane.operator.drain_preview import DrainPreview, preview_of
from controlplane.operator.overview import listen
from controlplane.operator.requests import request_text
from controlplane.settings.models import ControlConfig
from controlplane.store.contract import ControllerStore


def plan_change(
    store: ControllerStore, config: ControlConfig, kind: Kind, name: str, listen_seconds: float
) -> DrainPreview:
    """Observe for so long, then return the plan of a change of a server.

    Raises:
        UsageError: there is no such server.
        BrigadeError: exit code 3, this change would do nothing; 5, no controller would carry it
            out.
        StoreError: the store cannot be read.

    """
    published, fleet = listen(store, config, listen_seconds)
    known_server(config, published.cluster, name)
    if store.leader() is None:
        raise BrigadeError(
            "no controller leads this store, so what it has is old, and nothing would move: start "
            "lbctl control",
            ExitCode.UNAVAILABLE,
        )
    cluster = published.cluster
    if cluster is None or cluster.server(name) is None:
        raise _refusal(f"{name} is not in the cluster yet: lbctl servers shows who is")
    _check(store, cluster, kind, name)
    return preview_of(store, config, name, published, fleet, kind)


def foreseen_of(plan: Plan) -> Foreseen:
    """Return what the controller keeps of the plan of a drain or of its end."""
    pools = plan.stages[0].pools
    return Foreseen(
        EventKind(plan.change.value),
        sum(pool.buckets for pool in pools),
        sum(pool.forced for pool in pools),
        plan.lost,
        plan.stages[0].seconds,
    )


def _check(store: ControllerStore, cluster: Cluster, kind: Kind, name: str) -> None:
    """Raise ``BrigadeError`` if the change would do nothing."""
    server, request = cluster.server(name), store.drain_requests().get(name)
    state = server.state if server else None
    if kind is Kind.UNDRAIN:
        if request is None:
            raise _refusal(f"no drain of {name} is requested, so there is nothing to cancel")
    elif kind is Kind.DRAIN and request is not None:
        who = request_text(request)
        raise _refusal(f"{name} is drained already, requested{who}: lbctl undrain {name} ends it")
    elif kind is Kind.DRAIN and state not in SERVING:
        raise _refusal(f"{name} is {state}, so it has nothing to give up: lbctl why {name}")
    elif state not in IN_USE:
        raise _refusal(f"{name} is {state}, so nothing depends on it: lbctl why {name}")


def _refusal(text: str) -> BrigadeError:
    return BrigadeError(text, ExitCode.REFUSED)
