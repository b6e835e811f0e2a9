import itertools
from typing import get_args

import pytest

from gateway.accounts.caller import ROLE_SCOPES, ROLES, SANDBOX, SCOPES, Caller, Scope, need_role, need_scope
from gateway.problem import Problem


def caller(*scopes: str, role="owner", test=False) -> Caller:
    return Caller("org_one", "key:a", frozenset(scopes), role, test)


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_caller_passes_with_the_scope_or_with_everything_and_not_without(scope):
    check = need_scope(scope)
    assert (await check(caller(scope))).org_id == "org_one"
    assert await check(caller("*"))
    with pytest.raises(Problem) as refused:
        await check(caller(*(set(SCOPES) - {scope})))
    assert (refused.value.status, refused.value.code) == (403, "scope_missing")


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_test_key_passes_in_the_sandbox_only(scope):
    check = need_scope(scope)
    if scope in SANDBOX:
        assert await check(caller("*", test=True))
        return
    with pytest.raises(Problem) as refused:
        await check(caller("*", test=True))
    assert (refused.value.status, refused.value.code) == (403, "test_key")


@pytest.mark.parametrize("needed", ROLES)
async def test_a_role_includes_those_below_it(needed):
    check = need_role(needed)
    for role in ROLES:
        if ROLES.index(role) <= ROLES.index(needed):
            assert await check(caller("*", role=role))
        else:
            with pytest.raises(Problem, match=f"needs the role {needed}"):
                await check(caller("*", role=role))


@pytest.mark.parametrize("needed", ROLES)
async def test_a_test_key_has_no_role(needed):
    with pytest.raises(Problem) as refused:
        await need_role(needed)(caller("*", test=True))
    assert (refused.value.status, refused.value.code) == (403, "test_key")


def test_each_role_may_do_what_the_one_below_may_and_a_viewer_only_reads():
    everything = set(get_args(Scope))
    allowed = [everything if "*" in ROLE_SCOPES[role] else ROLE_SCOPES[role] for role in ROLES]
    for mightier, lesser in itertools.pairwise(allowed):
        assert mightier >= lesser
    assert all(scope.endswith(":read") for scope in ROLE_SCOPES["viewer"])
    assert all(scopes <= everything for scopes in allowed)
