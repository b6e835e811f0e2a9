"""FastAPI runs what is not a coroutine in a thread of a small pool: a hop and a queue for every request."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant

from gateway.app import create_app
from shared.settings import Settings
from validator.internal_api import create_internal_api


def awaited(call: Callable[..., Any] | None) -> bool:
    called = call if inspect.isroutine(call) or inspect.isclass(call) else type(call).__call__  # such as HTTPBearer
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)


def calls_of(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    yield dependant.call
    for inner in dependant.dependencies:
        yield from calls_of(inner)


def dependants(routes: Iterable[Any]) -> Iterator[Dependant]:
    for route in routes:
        if isinstance(getattr(route, "dependant", None), Dependant):
            yield route.dependant
        inner = getattr(route, "original_router", None)
        yield from dependants(inner.routes if inner is not None else getattr(route, "routes", ()))


def gateway() -> FastAPI:
    return create_app(Settings.load(_env_file=None, auth_mode="dev"), documents=None, broker=None)


def validator() -> FastAPI:
    return create_internal_api(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("app", "least"), [(gateway, 40), (validator, 5)])
def test_every_route_and_all_it_depends_on_are_coroutines(app: Callable[[], FastAPI], least: int) -> None:
    found = list(dependants(app().routes))
    assert len(found) >= least
    assert [call for dependant in found for call in calls_of(dependant) if not awaited(call)] == []
