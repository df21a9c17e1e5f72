"""Changes of zip archives, whose checksums are then those of what is in them: else most would be refused unread."""

import zipfile
from collections.abc import Callable, Sequence
from io import BytesIO
from random import Random

from tests.app.intake.archives import zip_of
from tests.fuzz.targets import Mutate

ChangeMember = Callable[[str, bytes, Random, Mutate], bytes]

#: More members than these are of no use to anybody here.
_MEMBERS = 8


def _blind(_name: str, content: bytes, _random: Random, mutate: Mutate) -> bytes:
    return mutate(content)


def changed_zip(
    data: bytes, random: Random, mutate: Mutate, names: Sequence[str], change: ChangeMember = _blind
) -> bytes:
    """`data` with a member changed by `change`, or renamed, to one of `names` or something else."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()[:_MEMBERS]}
    except Exception:  # noqa: BLE001 - whatever a reader raises for what is no archive
        return mutate(data)
    if not members or random.random() < 0.1:
        return mutate(data)
    name = random.choice(sorted(members))
    if random.random() < 0.15:
        renamed = random.choice((*names, mutate(name.encode()).decode(errors="ignore") or "x"))
        members[renamed] = members.pop(name)
    else:
        members[name] = change(name, members[name], random, mutate)
    return zip_of(members)
