from collections.abc import Mapping
from dataclasses import replace

import pytest

from app.caller import CALLER, Caller, Scope
from app.errors import Invalid
from app.experiments.assignment import Arm, Split
from app.experiments.live import Header, Live, Reason, UnitSource

SPLIT = Split("seed", (Arm("original", 50, control=True), Arm("int8", 50)), 0.4)


def live(*sources: str, random: bool = False) -> Live:
    return Live("e", SPLIT, tuple(map(UnitSource, sources)), random)


def headers(**values: str) -> Header:
    named: Mapping[bytes, str] = {name.replace("_", "-").encode(): value for name, value in values.items()}
    return named.get


def unit_with(reason: Reason) -> str:
    one = live("param:u")
    return next(u for u in map(str, range(1000)) if one.assign(headers(), {"u": u}, "").reason is reason)


def test_the_first_source_that_a_request_has_says_whose_it_is() -> None:
    one = replace(live("header:X-Unit-Id", "param:unit_id", "api_key"), split=replace(SPLIT, coverage=1.0))
    by_header = one.assign(headers(x_unit_id="u1", authorization="k"), {"unit_id": "u2"}, "r")
    by_parameter = one.assign(headers(authorization="k"), {"unit_id": "u2"}, "r")
    by_key = one.assign(headers(authorization="k"), {"unit_id": ""}, "r")
    units = [one.split.place(unit) for unit in ("u1", "u2", "k")]
    assert [each.place for each in (by_header, by_parameter, by_key)] == units


def test_numbers_are_units_too() -> None:
    one = replace(live("param:u"), split=replace(SPLIT, coverage=1.0))
    assert one.assign(headers(), {"u": 7}, "r").place == one.split.place("7")


def test_a_unit_gets_its_arm_and_one_outside_the_coverage_the_default() -> None:
    one = live("param:u")
    inside = one.assign(headers(), {"u": unit_with(Reason.hash)}, "r")
    assert inside.variant in {"original", "int8"}
    assert inside.place is not None
    outside = one.assign(headers(), {"u": unit_with(Reason.uncovered)}, "r")
    assert (outside.variant, outside.place) == (None, None)


def test_who_names_no_unit_gets_the_control_uncounted_or_is_one_for_this_request() -> None:
    nobody = live("param:u").assign(headers(), {}, "r")
    assert (nobody.variant, nobody.place, nobody.reason) == ("original", None, Reason.fallback)
    covered = unit_with(Reason.hash)
    alone = live("param:u", random=True).assign(headers(), {}, covered)
    assert (alone.place, alone.reason) == (SPLIT.place(covered), Reason.hash)


@pytest.mark.parametrize("text", ["", "header", "header:", "cookie:a", "param:", "API_KEY"])
def test_there_are_no_other_sources(text: str) -> None:
    with pytest.raises(Invalid, match="no source of units"):
        UnitSource(text)


def test_the_unit_of_a_key_is_its_id_and_never_the_key() -> None:
    source = UnitSource("api_key")
    shown = headers(x_api_key="octet_abcdefghijkl_secret")
    token = CALLER.set(Caller("shop", Scope.infer, "abcdefghijkl"))
    try:
        assert source.read(shown, {}) == "abcdefghijkl"
        # Signed in at a browser, or shown in the other header: the same key, the same unit.
        assert source.read(headers(), {}) == "abcdefghijkl"
    finally:
        CALLER.reset(token)
    assert source.read(headers(x_api_key="a proxy's own"), {}) == "a proxy's own"
