"""What a search found, kept with its job's end."""

from collections.abc import Callable

import pytest

from app.contracts import methods
from app.contracts.figures import PointFigures
from app.errors import Invalid, LeaseLost, UnknownPoint
from app.registry import Database, jobs, models, points
from app.registry.jobs import Lease
from app.registry.tables import Job, Point, Revision
from tests.app.registry.conftest import new_revision
from tests.app.registry.test_jobs import ARTIFACT, OUTCOME, claimed

FOUND = [
    PointFigures(
        kept=[],
        accuracy=0.81,
        agreement=0.95,
        sqnr_db=20.5,
        latency_ms=1.5,
        speedup=2.0,
        size_bytes=260,
        chosen=False,
    ),
    PointFigures(
        kept=["conv_stem", "classifier"],
        accuracy=0.89,
        agreement=0.99,
        sqnr_db=31.0,
        latency_ms=1.9,
        speedup=1.6,
        size_bytes=3_000_000_000,
        chosen=True,
    ),
    PointFigures(
        kept=["a", "b", "c"],
        accuracy=None,
        agreement=None,
        sqnr_db=None,
        latency_ms=None,
        speedup=None,
        size_bytes=900,
        chosen=False,
    ),
]

Submit = Callable[..., Job]


def searched(database: Database, submit: Submit, label: str = "dynamic") -> Lease:
    """A job that ended with `FOUND`."""
    with database.writing() as session:
        job_id = submit(session, label=label).id
    with database.writing() as session:
        lease = jobs.claim(session, job_id)
    assert lease is not None
    with database.writing() as session:
        jobs.succeed(session, lease, ARTIFACT, OUTCOME.model_copy(update={"points": FOUND}))
    return lease


def test_points_are_kept_in_the_order_of_the_search(database: Database, submit: Submit) -> None:
    lease = searched(database, submit)
    with database.reading() as session:
        found = points.listed(session, models.find(session, "resnet"))
        assert [point.number for point in found] == [1, 2, 3]
        for point, figures in zip(found, FOUND, strict=True):
            assert {name: getattr(point, name) for name in PointFigures.model_fields} == figures.model_dump()
            assert (point.job_id, point.variant, point.dataset) == (lease.job_id, "dynamic", None)
            assert point.options == jobs.find(session, lease.job_id).options
            assert point.revision.number == 1
            assert points.find(session, point.id) == point


def test_the_newest_search_comes_first(database: Database, submit: Submit) -> None:
    for label in ("first", "second"):
        searched(database, submit, label)
    with database.reading() as session:
        found = points.listed(session, models.find(session, "resnet"))
        assert [(point.variant, point.number) for point in found] == [
            *(("second", number) for number in (1, 2, 3)),
            *(("first", number) for number in (1, 2, 3)),
        ]


def test_only_those_of_a_revision_are_listed_when_it_is_named(database: Database, submit: Submit) -> None:
    searched(database, submit)
    with database.writing() as session:
        models.register(session, "resnet", new_revision())
    with database.reading() as session:
        model = models.find(session, "resnet")
        assert len(points.listed(session, model, models.find_revision(session, model, 1))) == 3
        assert points.listed(session, model, models.find_revision(session, model, 2)) == []


def test_a_worker_that_lost_its_job_leaves_no_points(database: Database, submit: Submit) -> None:
    lease = claimed(database, submit)
    with database.writing() as session:
        jobs.request_cancel(session, lease.job_id)
    with pytest.raises(LeaseLost), database.writing() as session:
        jobs.succeed(session, lease, ARTIFACT, OUTCOME.model_copy(update={"points": FOUND}))
    with database.reading() as session:
        assert session.query(Point).count() == 0


def test_no_point_outlives_its_model(database: Database, submit: Submit) -> None:
    searched(database, submit)
    with database.writing() as session:
        models.delete(session, "resnet")
    with database.reading() as session:
        assert session.query(Point).count() == 0


def test_a_point_of_another_revision_or_model_is_refused(database: Database, submit: Submit) -> None:
    searched(database, submit)
    with database.writing() as session:
        second = models.register(session, "resnet", new_revision())[0]
        other = models.register(session, "mobilenet", new_revision())[0]
    with database.reading() as session:
        point = points.listed(session, models.find(session, "resnet"))[0]
        assert points.find_of(session, point.revision, point.id) == point
        for revision in (second, other):
            with pytest.raises(Invalid, match="revision 1 of 'resnet'"):
                points.find_of(session, session.get_one(Revision, revision.id), point.id)
        for unknown in ("0" * 32, "", "../x", "a\x00"):
            with pytest.raises(UnknownPoint):
                points.find(session, unknown)


def test_what_the_client_names_goes_before_what_the_search_was_asked_for(database: Database, submit: Submit) -> None:
    searched(database, submit)
    with database.reading() as session:
        point = points.listed(session, models.find(session, "resnet"))[1]
        point.options = {"seed": 7, "max_accuracy_drop": 0.02, "of_an_older_release": True}
        options = points.options_for(point, methods.find("mixed"), {"point": point.id, "seed": 1})
        assert options == {"seed": 1, "max_accuracy_drop": 0.02, "point": point.id}
        session.expunge_all()


def test_labels_of_points_do_not_collide(database: Database, submit: Submit) -> None:
    searched(database, submit)
    with database.writing() as session:
        revision = models.find_revision(session, models.find(session, "resnet"))
        wanted = points.label_of(points.listed(session, revision.model)[2])
        assert wanted == "dynamic-p3"
        for expected in ("dynamic-p3", "dynamic-p3-2", "dynamic-p3-3"):
            label = jobs.free_label(session, revision, wanted)
            assert label == expected
            submit(session, label=label)
        long = "l" * 70
        for expected in ("l" * 63, "l" * 61 + "-2"):
            label = jobs.free_label(session, revision, long)
            assert label == expected
            submit(session, label=label)
