"""What rates need, as text and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from deploy.operate.stack.status import table
from deploy.release.capacity import Plan
from deploy.release.service import Service


@dataclass(frozen=True, slots=True)
class Cost:
    """What is paid for.

    Attributes:
        unit: `core` or `gpu`.
        each: how many a replica has.
        price: of an hour of one; None if it was not told.
    """

    unit: str
    each: int
    price: float | None


def lines(service: Service, plans: Sequence[Plan], cost: Cost) -> Iterator[str]:
    """The report: what a replica does, and a row for each rate."""
    yield service.of
    batches = f", in batches of {service.batch_rows}" if service.batch_rows > 1 else ""
    yield (
        f"a request alone takes {service.p50_ms:.3g} ms (p99 {service.p99_ms:.3g} ms), and a "
        f"replica answers at most {service.requests_per_second:,.0f} per second{batches}"
    )
    yield ""
    rows = [_row(service, plan, cost) for plan in plans]
    yield from table([list(rows[0]), *(list(row.values()) for row in rows)])


def as_json(service: Service, plans: Sequence[Plan], cost: Cost) -> str:
    """The same; null is what is not known, and the p99 of replicas that cannot keep up."""
    found = {
        "replica": asdict(service),
        "unit": cost.unit,
        "plans": [
            {
                **asdict(plan),
                "p99_one_lost_ms": _finite(plan.p99_one_lost_ms),
                "megabits_per_second": _megabits(service, plan),
                "units": plan.replicas * cost.each,
                "unit_hours_a_day": 24 * plan.replicas * cost.each,
                "cost_a_day": _cost_a_day(plan, cost),
            }
            for plan in plans
        ],
    }
    return json.dumps(found, indent=2)


def _row(service: Service, plan: Plan, cost: Cost) -> dict[str, str]:
    """Column → cell."""
    units, unit = plan.replicas * cost.each, cost.unit.upper()
    row = {
        "REQUESTS/S": f"{plan.rate:,.12g}",
        "REPLICAS": f"{plan.replicas:,}",
        "BUSY": f"{plan.busy:.1%}",
        "P99": f"{plan.p99_ms:.3g} ms",
        "WITH ONE LOST": _one_lost(plan),
        f"{unit}S": f"{units:,}",
        f"{unit}-HOURS A DAY": f"{24 * units:,}",
    }
    if (price := _cost_a_day(plan, cost)) is not None:
        row["COST A DAY"] = f"{price:,.2f}"
    if (megabits := _megabits(service, plan)) is not None:
        row["MBIT/S"] = f"{megabits:,.0f}" if megabits >= 10 else f"{megabits:.2g}"
    return row


def _one_lost(plan: Plan) -> str:
    if plan.replicas == 1:
        return "none left"
    found = _finite(plan.p99_one_lost_ms)
    return "too few" if found is None else f"{found:.3g} ms"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _cost_a_day(plan: Plan, cost: Cost) -> float | None:
    return None if cost.price is None else 24 * plan.replicas * cost.each * cost.price


def _megabits(service: Service, plan: Plan) -> float | None:
    return 8e-6 * plan.rate * service.request_bytes or None
