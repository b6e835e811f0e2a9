import pytest

from shared.internal_token import token_matches

TOKEN = "a token between services"


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_the_right_token_is_let_in(header):
    assert token_matches(header, TOKEN)


@pytest.mark.parametrize(
    "header", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", "Bearer \udcff", "Bearer ä"]
)
def test_everything_else_is_not(header):
    assert not token_matches(header, TOKEN)


@pytest.mark.parametrize("token", [None, ""])
def test_where_no_token_is_set_nobody_is_let_in(token):
    assert not token_matches("Bearer ", token)
    assert not token_matches(None, token)
