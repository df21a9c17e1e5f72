from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from app.serving.batches import Signature
from app.serving.priority_queue import PriorityQueue


@dataclass(eq=False)
class Person:
    number: int
    priority: int = 5
    rows: int = 1
    signature: Signature | None = ("a",)
    deadline_ns: int | None = None

    @property
    def elements(self) -> int:
        return self.rows * 10

    @property
    def entered_ns(self) -> int:
        return self.number


PEOPLE = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 6), st.sampled_from([None, ("a",), ("b",)]), st.booleans()), max_size=20
)


def lined_up(people: list[Person]) -> PriorityQueue[Person]:
    line: PriorityQueue[Person] = PriorityQueue()
    for person in people:
        line.add(person)
    return line


@given(PEOPLE, st.integers(1, 12))
def test_everybody_leaves_once_in_order_and_within_the_limit(
    drawn: list[tuple[int, int, Signature | None, bool]], max_rows: int
) -> None:
    people = [Person(number, *person[:3]) for number, person in enumerate(drawn)]
    line = lined_up(people)
    gone = {people[number] for number, person in enumerate(drawn) if person[3]}
    for person in gone:
        assert line.remove(person)
        assert not line.remove(person)
    left = [person for person in people if person not in gone]
    while left:
        assert line.rows == sum(person.rows for person in left)
        assert line.elements == 10 * line.rows
        assert set(line) == set(left)
        assert line.oldest_ns() == left[0].number
        for level in range(4):
            before = sum(person.elements for person in left if person.priority <= level)
            assert line.elements_before(level) == before
        taken = line.take(max_rows)
        # The most urgent goes first, and of those the first that came.
        assert taken[0] is min(left, key=lambda person: (person.priority, person.number))
        assert len(taken) == 1 or sum(person.rows for person in taken) <= max_rows
        assert len({person.signature for person in taken}) == 1
        assert len(taken) == 1 or taken[0].signature is not None
        alike = [person for person in left if person.signature == taken[0].signature]
        # Nobody overtakes somebody who is alike and no less urgent.
        assert taken == sorted(alike, key=lambda person: (person.priority, person.number))[: len(taken)]
        left = [person for person in left if person not in taken]
    assert not line
    assert (line.rows, line.elements, line.take(max_rows)) == (0, 0, [])


def test_a_batch_is_as_large_as_it_may_be() -> None:
    line = lined_up([Person(number, rows=rows) for number, rows in enumerate((2, 3, 4, 1))])
    assert [person.number for person in line.take(9)] == [0, 1, 2]
    assert [person.number for person in line.take(9)] == [3]


def test_the_earliest_deadline_is_known() -> None:
    people = [Person(0), Person(1, deadline_ns=70), Person(2, deadline_ns=50)]
    line = lined_up(people)
    assert line.earliest_deadline_ns() == 50
    line.remove(people[2])
    assert line.earliest_deadline_ns() == 70
    line.take(9)
    assert line.earliest_deadline_ns() is None
