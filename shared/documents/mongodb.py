"""The document store on a MongoDB server, by motor. Every write waits for a majority and the journal.

Nothing here needs a replica set, a transaction or an aggregation: one document is the unit of atomicity.

Keys of objects may hold dots (a domain, say), which servers older than 5.0 refuse: at rest such a dot is kept as
U+E02E, a private-use character that no domain or name has. Objects inside lists are left as they are, so that a batch
of results costs nothing to translate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, PyMongoError

from shared.documents import Change, Collection, Condition, Document, Gt, Gte, In, Lt, Lte, Missing, Ne, Where
from shared.documents.where import conditions, ordered_operand, refuse_undeclared
from shared.errors import DocumentsUnavailable, SettingsError

_ANSWER_MS = 30_000  # a command that takes longer has failed; the first page of a long scan may be slow
_DUPLICATE_KEY = 11000
_MISFIT = {2, 9, 14, 28, 40}  # BadValue, FailedToParse, TypeMismatch, PathNotViable, ConflictingUpdateOperators
_IMMUTABLE = 66
_DEFAULT_DATABASE = "mailvet"
_DOT = "\ue02e"
_RANGE: dict[type, str] = {Lt: "$lt", Lte: "$lte", Gt: "$gt", Gte: "$gte"}


class MongoDocuments:
    """`Documents` in the database that `url` names (`mailvet` where it names none). `collections`: every one used.

    `patience`: seconds to look for a server that answers before DocumentsUnavailable; covers a change of primary.
    """

    def __init__(self, url: str, collections: Sequence[Collection], *, patience: float = 5.0) -> None:
        self._url = url
        self._patience = patience
        self._collections = tuple(collections)
        self._client: AsyncIOMotorClient[Document] | None = None
        self._database: AsyncIOMotorDatabase[Document] | None = None

    async def __aenter__(self) -> Self:
        try:
            self._client = AsyncIOMotorClient(
                self._url,
                w="majority",
                journal=True,
                serverSelectionTimeoutMS=int(self._patience * 1000),
                connectTimeoutMS=int(self._patience * 1000),
                socketTimeoutMS=_ANSWER_MS,
                waitQueueTimeoutMS=_ANSWER_MS,
                appname="mailvet",
            )
        except (PyMongoError, ValueError) as error:  # nothing is sent yet: the URL is wrong
            raise SettingsError("MAILVET_MONGO_URL", f"is no MongoDB URL ({type(error).__name__})") from error
        self._database = self._client.get_default_database(_DEFAULT_DATABASE)
        try:
            for collection in self._collections:
                await self._create(collection)
        except BaseException:
            self._client.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close()
        self._client = self._database = None

    async def _create(self, collection: Collection) -> None:
        for fields in collection.indexes:
            refuse_undeclared(collection, fields)
        models = [IndexModel([(name, ASCENDING) for name in (*fields, "_id")]) for fields in collection.indexes]
        with _translated():
            for model in models:  # one by one: FerretDB 1.x trips over several that exist already
                await self._of(collection).create_indexes([model])
            if not models:
                await self._of(collection).find_one({"_id": ""})  # a round trip, so that a wrong URL shows at once

    def _of(self, collection: Collection) -> AsyncIOMotorCollection[Document]:
        if self._database is None:
            raise DocumentsUnavailable("the document store is closed")
        return self._database[collection.name]

    # --- writes ---
    async def insert(self, collection: Collection, document: Document) -> bool:
        stored = _stored(document)
        try:
            with _translated():
                await self._of(collection).insert_one(stored)
        except DuplicateKeyError:
            return False
        return True

    async def insert_many(self, collection: Collection, documents: Sequence[Document]) -> int:
        if not documents:
            return 0
        stored = [_stored(document) for document in documents]
        try:
            with _translated():
                done = await self._of(collection).insert_many(stored, ordered=False)
        except BulkWriteError as error:
            return _inserted(error)
        return len(done.inserted_ids)

    async def get(self, collection: Collection, id_: str) -> Document | None:
        with _translated():
            found = await self._of(collection).find_one({"_id": id_})
        return _given(found) if found is not None else None

    async def update(
        self, collection: Collection, id_: str, change: Change, where: Where | None = None
    ) -> Document | None:
        wanted = _filter(where or {}, {"_id": id_})
        operators = _operators(change)
        with _translated():
            if not operators:
                found = await self._of(collection).find_one(wanted)
            else:
                found = await self._of(collection).find_one_and_update(
                    wanted, operators, return_document=ReturnDocument.AFTER
                )
        return _given(found) if found is not None else None

    async def replace(self, collection: Collection, document: Document) -> None:
        stored = _stored(document)
        wanted = {"_id": stored["_id"]}
        try:
            with _translated():
                await self._of(collection).replace_one(wanted, stored, upsert=True)
        except DuplicateKeyError:  # somebody inserted it at this moment
            with _translated():
                await self._of(collection).replace_one(wanted, stored)

    async def delete(self, collection: Collection, id_: str) -> bool:
        with _translated():
            done = await self._of(collection).delete_one({"_id": id_})
        return bool(done.deleted_count)

    async def delete_many(self, collection: Collection, where: Where) -> int:
        refuse_undeclared(collection, list(where))
        with _translated():
            done = await self._of(collection).delete_many(_filter(where))
        return int(done.deleted_count)

    # --- reads ---
    async def count(self, collection: Collection, where: Where) -> int:
        refuse_undeclared(collection, list(where))
        with _translated():
            return int(await self._of(collection).count_documents(_filter(where)))

    async def scan(
        self,
        collection: Collection,
        where: Where,
        *,
        sort: str = "_id",
        descending: bool = False,
        after: tuple[Any, str] | None = None,
        limit: int | None = None,
        fields: Sequence[str] | None = None,
    ) -> AsyncIterator[Document]:
        refuse_undeclared(collection, [sort, *where])
        if limit is not None and limit <= 0:
            return
        direction = DESCENDING if descending else ASCENDING
        order = [("_id", direction)] if sort == "_id" else [(sort, direction), ("_id", direction)]
        projection = None if fields is None else dict.fromkeys(("_id", *fields), 1)
        wanted = _filter(where, *_beyond(sort, after, "$lt" if descending else "$gt"))
        cursor = self._of(collection).find(wanted, projection, sort=order, limit=limit or 0)
        try:
            while True:
                with _translated():
                    found = await anext(cursor, None)
                if found is None:
                    return
                yield _given(found)
        finally:
            await cursor.close()

    async def scrub(self) -> None:
        """Its files are the server's business."""

    async def check(self) -> None:
        if self._client is None:
            raise DocumentsUnavailable("the document store is closed")
        with _translated():
            await self._client.admin.command("ping")


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the driver become ours; those that say something about the data go through or become ValueError."""
    try:
        yield
    except (DuplicateKeyError, BulkWriteError):
        raise
    except OperationFailure as error:
        if error.code in _MISFIT or error.code == _IMMUTABLE:
            raise ValueError(f"the change does not fit the document (code {error.code})") from error
        raise DocumentsUnavailable(f"the document store refused: code {error.code}") from error
    except PyMongoError as error:
        raise DocumentsUnavailable(f"the document store does not answer: {type(error).__name__}") from error


def _inserted(error: BulkWriteError) -> int:
    details = error.details
    others = [one["code"] for one in details.get("writeErrors", ()) if one["code"] != _DUPLICATE_KEY]
    if others or details.get("writeConcernErrors"):
        raise DocumentsUnavailable(f"the document store refused a write: codes {others}") from error
    return int(details["nInserted"])


# --- documents ---
def _stored(document: Document) -> Document:
    if not isinstance(document.get("_id"), str):
        raise ValueError("_id must be a string")  # noqa: TRY004 - one kind of error for everything that does not fit
    return {name.replace(".", _DOT): _hidden(value) for name, value in document.items()}


def _hidden(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name.replace(".", _DOT): _hidden(inner) for name, inner in value.items()}


def _given(document: Mapping[str, Any]) -> Document:
    return {name.replace(_DOT, "."): _shown(value) for name, value in document.items()}


def _shown(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name.replace(_DOT, "."): _shown(inner) for name, inner in value.items()}


# --- changes ---
def _operators(change: Change) -> Document:
    if any(path == "_id" for path in (*change.set, *change.inc, *change.push, *change.unset)):
        raise ValueError("_id never changes")
    operators = {
        "$set": {path: _hidden(value) for path, value in change.set.items()},
        "$inc": dict(change.inc),
        "$push": {path: _hidden(value) for path, value in change.push.items()},
        "$unset": dict.fromkeys(change.unset, ""),
    }
    return {name: arguments for name, arguments in operators.items() if arguments}


# --- conditions ---
def _filter(where: Where, *more: Document) -> Document:
    parts = [*more, *({path: _operator(condition)} for path, condition in conditions(where))]
    return {} if not parts else parts[0] if len(parts) == 1 else {"$and": parts}


def _operator(condition: Condition) -> Document:
    """MongoDB takes null for a missing field and a missing field for null; the extra `$exists` keeps them apart."""
    if isinstance(condition, Missing):
        return {"$exists": False}
    if isinstance(condition, Ne):
        if condition.value is None:
            return {"$not": {"$eq": None, "$exists": True}}
        return {"$ne": _hidden(condition.value)}
    if isinstance(condition, In):
        operator: Document = {"$in": [_hidden(value) for value in condition.values]}
        return {**operator, "$exists": True} if None in condition.values else operator
    if isinstance(condition, (Lt, Lte, Gt, Gte)):
        return {_RANGE[type(condition)]: ordered_operand(condition)}
    return {"$eq": None, "$exists": True} if condition is None else {"$eq": _hidden(condition)}


def _beyond(sort: str, after: tuple[Any, str] | None, operator: str) -> Iterator[Document]:
    """What keeps a scan to ordered values, and to those behind the last one seen."""
    if sort != "_id":
        yield {sort: {"$type": ["number", "string"]}}
    if after is None:
        return
    value, id_ = after
    if sort == "_id":
        yield {"_id": {operator: id_}}
    else:
        yield {sort: {operator + "e": value}}  # lets the server start at the right place of its index
        yield {"$or": [{sort: {operator: value}}, {sort: value, "_id": {operator: id_}}]}
