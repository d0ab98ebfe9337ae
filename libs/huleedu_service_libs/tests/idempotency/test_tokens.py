"""Owner tokens: told apart, also across a fork."""

import os
import warnings

from huleedu_service_libs.idempotency_v2.tokens import new_token


def test_tokens_differ_and_none_contains_another() -> None:
    """Redis finds an owner by its token in a text, so all are of one length."""
    tokens = [new_token() for _ in range(5_000)]
    assert len(set(tokens)) == 5_000
    assert {len(token) for token in tokens} == {36}


def test_a_forked_process_makes_its_own() -> None:
    """Parent and child go on with the same number, and yet never make the same token."""
    read, write = os.pipe()
    with warnings.catch_warnings():  # newer Pythons warn of forks beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:  # pragma: no cover  # in the child
        os.write(write, new_token().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 100).decode()
    os.close(read)
    os.close(write)
    mine = new_token()
    assert len(theirs) == 36
    assert theirs != mine
    assert theirs[24:] == mine[24:]
