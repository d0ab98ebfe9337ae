"""The Lua scripts of idempotency, and how a script is written that treats any number of keys alike.

``claim`` and ``many`` ask with them, the inbox' fast path has one of its own; ``script_runner`` runs them. Knows no
records and no events: a record is a text that contains its owner's token.
"""

from dataclasses import dataclass

__all__ = ["CLAIM", "CONFIRM", "RELEASE", "RENEW", "ManyScript", "for_each_key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyScript:
    """A script that treats any number of keys alike.

    Attributes:
        name: For errors.
        body: Lua. Gets the keys, and for each of them ``arity`` arguments in a row; returns a list
            with one answer for each key.
        arity: Arguments for each key.
    """

    name: str
    body: str
    arity: int


def for_each_key(name: str, arity: int, body: str) -> ManyScript:
    """The script that runs ``body`` with ``key``, ``stored`` and ``a1``, ``a2``, ... and collects its ``answer``."""
    arguments = "\n".join(f"  local a{n} = ARGV[(i - 1) * {arity} + {n}]" for n in range(1, arity + 1))
    return ManyScript(
        name=name,
        arity=arity,
        body=(
            "local answers = {}\nfor i, key in ipairs(KEYS) do\n"
            f"{arguments}\n  local answer = 0\n"
            # One key of another type must not fail the others'.
            "  local stored = redis.pcall('GET', key)\n"
            "  if type(stored) == 'table' then answer = -1 else\n"
            f"{body}  end\n  answers[i] = answer\nend\nreturn answers\n"
        ),
    )


# A record contains its owner's token, which occurs nowhere else, so finding the token is proof.
# The completed record has none: a renewal that is late cannot turn it back.

CLAIM = for_each_key(
    "claim",
    3,  # token, record, seconds
    """
    if not stored then
      redis.call('SET', key, a2, 'EX', a3)
      answer = 1
    elseif string.find(stored, a1, 1, true) then answer = 1
    else answer = stored end
""",
)
"""1 when the key is the token's now (also when it was already: an answer got lost), else what is stored."""

RENEW = for_each_key(
    "renew",
    3,  # token, record, seconds
    """
    if stored and string.find(stored, a1, 1, true) then
      redis.call('SET', key, a2, 'EX', a3)
      answer = 1
    end
""",
)
"""1 when the key is the token's and was replaced."""

CONFIRM = for_each_key(
    "confirm",
    3,  # token, record, seconds
    """
    if not stored or stored == a2 or string.find(stored, a1, 1, true) then
      redis.call('SET', key, a2, 'EX', a3)
      answer = 1
    end
""",
)
"""1 when the key was the token's, or nobody's, or confirmed with this very record before."""

RELEASE = for_each_key(
    "release",
    1,  # token
    """
    if not stored then answer = 1
    elseif string.find(stored, a1, 1, true) then answer = redis.call('DEL', key) end
""",
)
"""1 when the key is nobody's now; 0 when it is another's."""
