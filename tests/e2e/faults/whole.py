"""Whether everything is as it should be, after whatever happened: *every* job, variant, blob and row is looked at."""

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import select, text

from app.blobs import open_store
from app.digest import sha256_of
from app.registry import Database, Session
from app.registry.jobs import FINAL
from app.registry.references import referenced
from app.registry.tables import AuditEntry, Dataset, Job, JobEvent, Model, Revision, Variant
from app.settings import Settings
from tests.e2e.service import Service, eventually


def assert_whole(service: Service, *, seconds: float = 120) -> None:
    """Once all jobs have ended, nothing is half done, done twice, missing or left over."""
    settings = settings_of(service)
    database = Database(settings.registry_url)
    try:
        eventually(lambda: not _unfinished(database), seconds=seconds, what="the end of all jobs")
        eventually(lambda: service.leftovers() == [], what="an empty scratch folder")
        # What killed processes stored and no row came to name goes when a worker starts, which may be only just.
        eventually(lambda: not _unnamed(database, settings), what="the removal of blobs without a row")
        with database.reading() as session:
            faults = [*_of_jobs(session), *_of_variants(session), *_of_blobs(session, settings)]
            faults += [*_of_numbers(session), *_of_database(session)]
    finally:
        database.close()
    assert faults == []


def settings_of(service: Service) -> Settings:
    """What the service's processes take from their environment."""
    given = {name.removeprefix("OCTET_").lower(): value for name, value in service.environment.items()}
    return Settings(**given)  # type: ignore[arg-type]


def _unfinished(database: Database) -> bool:
    with database.reading() as session:
        return session.scalar(select(Job.id).where(Job.state.not_in(FINAL)).limit(1)) is not None


def _unnamed(database: Database, settings: Settings) -> set[str]:
    with database.reading() as session:
        return set(open_store(settings).digests()) - referenced(session)


def _of_jobs(session: Session) -> Iterator[str]:
    submitted, deleted = _audited(session, "submitted", "job"), _audited(session, "deleted", "variant")
    for job in session.scalars(select(Job)):
        events = list(session.scalars(select(JobEvent).where(JobEvent.job_id == job.id).order_by(JobEvent.id)))
        ends = [event for event in events if event.state in FINAL]
        if [event.state for event in ends] != [job.state] or events[-1] is not ends[0]:
            yield f"job {job.id} is {job.state}, and its events end {[event.state for event in events[-3:]]}"
        if (job.lease_token, job.lease_renewed_at, job.checkpoint_digest) != (None, None, None):
            yield f"job {job.id} has ended, and still holds a lease or a checkpoint"
        if (job.state == "succeeded") != (job.variant_id is not None) and not deleted[f"{job.model.name}@{job.label}"]:
            yield f"job {job.id} is {job.state}, with variant {job.variant_id}"
        if (job.state == "failed") != (job.error is not None) or job.finished_at is None:
            yield f"job {job.id} is {job.state}: {job.error}, finished {job.finished_at}"
        if submitted[f"{job.model.name}@{job.label} {job.id}"] != 1:
            yield f"job {job.id} is {submitted[f'{job.model.name}@{job.label} {job.id}']} times in the audit log"


def _of_variants(session: Session) -> Iterator[str]:
    expected = _audited(session, "deleted", "variant")
    for variant in session.scalars(select(Variant)):
        makers = list(session.scalars(select(Job).where(Job.variant_id == variant.id)))
        if variant.label == "original":
            continue
        expected[f"{variant.revision.model.name}@{variant.label}"] += 1
        if [job.state for job in makers] != ["succeeded"]:
            yield f"variant {variant.id} was made by {[(job.id, job.state) for job in makers]}"
        if variant.evaluation is None:
            yield f"variant {variant.id} was published without its evaluation"
    models = {model.name for model in session.scalars(select(Model))}
    made = {name: count for name, count in _audited(session, "made", "variant").items() if name.split("@")[0] in models}
    if made != {name: count for name, count in expected.items() if name.split("@")[0] in models}:
        yield f"variants made, by the audit log: {made}; in the registry or deleted: {expected}"


def _of_blobs(session: Session, settings: Settings) -> Iterator[str]:
    store = open_store(settings)
    there, named = set(store.digests()), referenced(session)
    if there != named:
        yield f"blobs missing: {named - there}, unnamed: {there - named}"
    for digest in there:
        with store.materialize(digest) as path:
            if sha256_of(path) != digest:
                yield f"blob {digest} is not what its name says"
    for path in (settings.home / "blobs").rglob("*"):
        if path.is_file() and path.name not in there:
            yield f"{path} is no blob"
    sizes = session.execute(select(Dataset.digest, Dataset.size_bytes)).all()
    sizes += session.execute(
        select(Variant.digest, Variant.size_bytes).where(Variant.data_digest.is_(None), Variant.label != "original")
    ).all()
    for digest, size in sizes:
        if digest in there and store.size(digest) != size:
            yield f"blob {digest} has not the {size} bytes that its row says"


def _of_numbers(session: Session) -> Iterator[str]:
    for model in session.scalars(select(Model)):
        numbers = [revision.number for revision in model.revisions]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"revisions of {model.name}: {numbers}"
        versions = session.scalars(select(Variant.version).where(Variant.model_id == model.id)).all()
        if len(set(versions)) != len(versions) or max(versions, default=0) >= model.next_version:
            yield f"versions of {model.name}: {versions}, next {model.next_version}"
    for revision in session.scalars(select(Revision)):
        labels = [variant.label for variant in revision.variants]
        if labels.count("original") != 1:
            yield f"revision {revision.number} of {revision.model.name} has {labels}"


def _of_database(session: Session) -> Iterator[str]:
    if session.connection().dialect.name == "sqlite":
        for pragma in ("integrity_check", "foreign_key_check"):
            found = [row[0] for row in session.execute(text(f"PRAGMA {pragma}"))]
            if found not in ([], ["ok"]):
                yield f"{pragma}: {found}"


def _audited(session: Session, verb: str, noun: str) -> Counter[str]:
    """How often each name is in the audit log; of a model that was deleted and uploaded again, since its deletion."""
    names: Counter[str] = Counter()
    query = select(AuditEntry.verb, AuditEntry.noun, AuditEntry.name).order_by(AuditEntry.id)
    for entry_verb, entry_noun, name in session.execute(query):
        if (entry_verb, entry_noun) == ("deleted", "model"):
            names = Counter({key: count for key, count in names.items() if not key.startswith(f"{name}@")})
        elif (entry_verb, entry_noun) == (verb, noun):
            names[name] += 1
    return names
