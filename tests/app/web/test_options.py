import pytest

from app.contracts.methods import OFFERED, checked_options
from app.web.options import Field, groups


def fields(name: str) -> dict[str, Field]:
    return {field.name: field for group in groups(OFFERED[name]) for field in group.fields}


@pytest.mark.parametrize("name", list(OFFERED))
def test_every_option_of_a_method_has_a_field_with_its_description(name: str) -> None:
    found = fields(name)
    assert found.keys() == OFFERED[name].options.model_fields.keys()
    assert all(field.hint for field in found.values())


@pytest.mark.parametrize("name", list(OFFERED))
def test_only_the_budget_is_seen_at_once(name: str) -> None:
    plain = [field.name for group in groups(OFFERED[name]) if group.plain for field in group.fields]
    assert plain == ([] if name == "evaluate" else ["max_accuracy_drop", "min_speedup"])


def test_types_bounds_and_choices_are_those_of_the_schema() -> None:
    found = fields("int8")
    assert (found["calibration_samples"].kind, found["calibration_samples"].default) == ("integer", "256")
    assert (found["calibration_samples"].low, found["calibration_samples"].high) == ("1", "100000")
    assert found["calibration"].kind == "choice"
    assert "percentile_99.99" in found["calibration"].choices
    assert (found["repair"].kind, found["repair"].default) == ("checkbox", "true")
    assert (found["max_accuracy_drop"].kind, found["max_accuracy_drop"].default) == ("number", "0.01")
    assert (found["min_speedup"].optional, found["min_speedup"].default) == (True, "")
    assert (fields("mixed")["keep_fp32"].kind, fields("mixed")["keep_fp32"].type) == ("lines", "list")
    assert (fields("int4")["bits"].choices, fields("int4")["bits"].type) == (["4", "8"], "integer")


@pytest.mark.parametrize("name", list(OFFERED))
def test_what_fields_show_is_what_the_method_takes_by_default(name: str) -> None:
    """A number is sent as one, as `static/forms.js` does."""
    shown = {
        field.name: float(field.default) if field.type in {"number", "integer"} else field.default
        for field in fields(name).values()
        if field.default and field.kind != "checkbox" and field.type != "list"
    }
    assert checked_options(OFFERED[name], shown) == checked_options(OFFERED[name], {})
