"""What is fuzzed. Each module has two functions, and imports of the product nothing but what it fuzzes.

`check(data)` returns for what is taken, and for what is refused as it should be; whatever it raises is a finding.
`mutated(data, random, mutate)` changes `data` by what it means; `mutate` changes bytes without knowing what they mean.
"""

from collections.abc import Callable

from app.errors import OctetError

Mutate = Callable[[bytes], bytes]

TARGETS = ("inspector", "codec", "grpc_codec", "datasets")

#: A sentence for the client is not longer, whatever it quotes.
_LONGEST_SENTENCE = 2000


def check_refusal(error: OctetError) -> None:
    """Raise unless `error` tells the client something, and not without end."""
    assert 0 < len(error.detail) <= _LONGEST_SENTENCE, f"a refusal of {len(error.detail)} characters"
