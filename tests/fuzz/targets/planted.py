"""What has a defect on purpose, to prove that defects are found: it falls over one key of a JSON object."""

import json
from random import Random

from app.errors import Invalid
from app.inference.json_text import json_object
from tests.fuzz.targets import Mutate, check_refusal


def check(data: bytes) -> None:
    try:
        message = json_object(data)
    except Invalid as refusal:
        check_refusal(refusal)
        return
    if "planted" in message:
        raise KeyError("planted")


def mutated(data: bytes, random: Random, mutate: Mutate) -> bytes:
    return json.dumps({random.choice(("x", "y", "planted")): 1}).encode() if random.random() < 0.1 else mutate(data)
