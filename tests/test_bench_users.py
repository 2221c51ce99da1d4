"""The users and batches of the benchmarks are what they say, and a filled folder is what its journal makes of it."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import apsw
import msgspec
import pytest

from oneself.bench import batches, fill_users
from oneself.bench.batches import SHARES, Batches, Sender, stored_batch
from oneself.bench.crowds import add_crowds, planned_batches
from oneself.bench.fill import SCOPE, SPACE
from oneself.bench.fill_users import INPUT, NoRoom
from oneself.bench.mix import Cursor
from oneself.bench.pattern import TIME, Pattern, row_columns
from oneself.bench.population import NEW, customer_id
from oneself.bench.reads import AT_ONE, PROFILE_PATH, Reads
from oneself.bench.spool import PARTS, Spool
from oneself.bench.users import BUSY, CROWDED, Users, stamp
from oneself.engine import Engine, adopt_policies, delivery
from oneself.identity import PolicySettings
from oneself.profiles import Source, read_batch, values_of
from oneself.store import EmbeddedStore

USERS = Users(60, devices=2, attributes=12, events=2)
WEB = Source("default/web", "default", "web", 0, platform=True)
SERVER = Source("default/server", "default", "server", 1, platform=False)
NOW_MS = 1_763_780_000_000


# -- users ---------------------------------------------------------------------------------------------------------


def test_mpids_rise_with_the_users_and_are_spread_over_the_whole_range():
    mpids = [USERS.mpid(number) for number in range(60)]
    assert mpids == sorted(set(mpids))
    assert mpids[0] < -(1 << 62) < 1 << 62 < mpids[-1]
    assert len({USERS.mpid(number) for number in (BUSY, CROWDED)} - set(mpids)) == 2


def test_a_user_has_as_many_attributes_as_asked_for_all_different_from_the_next_users():
    values = USERS.values(3)
    assert len(values) == 12
    assert [name for name, value in values.items() if isinstance(value, list)] == ["attribute_09"]
    assert all(values[name] != value for name, value in USERS.values(4).items())


# -- batches on the wire --------------------------------------------------------------------------------------------


def sent(work: Batches | Reads, count: int, cursor: Cursor | None = None, seed: int = 1) -> list[bytes]:
    """Return so many requests of a load."""
    make, _ = work.begin("127.0.0.1:80", Cursor() if cursor is None else cursor, seed)
    return [make() for _ in range(count)]


def documents(work: Batches, count: int, cursor: Cursor | None = None, seed: int = 1) -> list[dict[str, Any]]:
    """Return the batches of a load."""
    return [msgspec.json.decode(request.partition(b"\r\n\r\n")[2]) for request in sent(work, count, cursor, seed)]


@pytest.mark.parametrize("channel", ["web", "server"])
def test_batches_on_the_wire_are_whole_and_say_nothing_that_is_not_understood(channel: Any):
    source = WEB if channel == "web" else SERVER
    ids: list[str] = []
    for request in sent(Batches(USERS, channel, "k", "s"), 300):
        head, _, body = request.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")
        start = b"POST /v3/JS/k/events HTTP/1.1" if channel == "web" else b"POST /v2/events HTTP/1.1"
        assert head.startswith(start)
        assert (b"Authorization: Basic azpz" in head) == (channel == "server")
        assert 1400 <= len(body) <= 2100
        batch, quarantined = read_batch(msgspec.json.decode(body), source, NOW_MS)
        assert (quarantined, batch.ignored) == ((), ())
        assert [event.type for event in batch.events] == ["screen_view", "custom_event", "user_attribute_change"]
        assert len(batch.changes) == (channel == "web")
        ids += [batch.request_id, *(event.id for event in batch.events)]
    assert len(set(ids)) == len(ids) == 1200


@pytest.mark.parametrize("channel", ["web", "server"])
def test_the_mix_has_its_shares_and_reaches_all_users(channel: Any):
    cursor = Cursor()
    found = documents(Batches(USERS, channel, "k", "s"), 2000, cursor)
    named = Counter("by_mpid" if one["mpid"] else one["user_identities"] and "customer" for one in found)
    new = 20 * SHARES[channel]["new"]
    assert cursor.new == new == 400
    assert named["by_mpid"] == 20 * SHARES[channel]["by_mpid"]
    assert {int(one["mpid"]) for one in found if one["mpid"]} == {USERS.mpid(number) for number in range(60)}
    assert {one["mp_deviceid"] for one in found} == (
        {stamp(number, place) for number in range(60) for place in range(2)}
        | {stamp(NEW + number, 0) for number in range(1, new + 1)}
    )


def test_the_next_run_goes_on_where_the_last_one_ended():
    cursor = Cursor()
    work = Batches(USERS, "web", "k")
    before = documents(work, 200, cursor)
    cursor = msgspec.json.decode(msgspec.json.encode(cursor), type=Cursor)
    after = documents(work, 200, cursor, seed=2)
    assert len({one["source_request_id"] for one in [*before, *after]}) == 400
    new = [one["mp_deviceid"] for one in [*before, *after] if not one["mpid"]]
    assert len(set(new)) == len(new) == 80


def test_aimed_batches_go_to_one_user_at_a_time():
    users = msgspec.structs.replace(USERS, crowd=30)
    ordinary = [one["mpid"] for one in documents(Batches(users, "web", "k", aim="ordinary"), 3 * AT_ONE)]
    assert [len(set(ordinary[start : start + AT_ONE])) for start in range(0, 3 * AT_ONE, AT_ONE)] == [1, 1, 1]
    assert len(set(ordinary)) == 3
    busy = documents(Batches(users, "web", "k", aim="busy"), 50)
    assert {(one["mpid"], one["mp_deviceid"]) for one in busy} == {(str(users.mpid(BUSY)), stamp(BUSY, 0))}
    crowded = documents(Batches(users, "web", "k", aim="crowded"), 500)
    assert {one["mpid"] for one in crowded} == {str(users.mpid(CROWDED))}
    assert {one["mp_deviceid"] for one in crowded} == {stamp(CROWDED, place) for place in range(30)}


def test_reads_ask_for_stored_users_with_the_token():
    asked = [request.split() for request in sent(Reads(USERS, "t-1"), 1000)]
    paths = {USERS.mpid(number): 0 for number in range(60)}
    for words in asked:
        assert words[0] == b"GET"
        path, _, query = words[1].decode().partition("?")
        assert query.startswith("fields=user_identities,")
        assert words[-1] == b"t-1"
        paths[int(path.removeprefix(PROFILE_PATH))] += 1
    assert min(paths.values()) > 0
    assert len(paths) == 60
    crowded = {request.split()[1] for request in sent(Reads(USERS, "t-1", "crowded"), 20)}
    assert len(crowded) == 1
    assert str(USERS.mpid(CROWDED)).encode() in crowded.pop()


# -- filling --------------------------------------------------------------------------------------------------------


class Filled(NamedTuple):
    folder: Path
    users: Users
    steps: list[int]


@pytest.fixture(scope="module", params=[USERS, Users(40, devices=3, attributes=40, events=0)], ids=["small", "large"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """A folder with users; ``steps`` is what the fill said of its progress."""
    folder: Path = tmp_path_factory.mktemp("filled") / "data"
    steps: list[int] = []
    fill_users.fill_users(folder, request.param, steps.append)
    return Filled(folder, request.param, steps)


def copied(filled: Filled, to: Path) -> Path:
    """Return a copy of a filled folder."""
    return Path(shutil.copytree(filled.folder, to / "data"))


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of a database, JSON decoded, in the order of its primary key."""
    file = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    names = [name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {}
    for name in names:
        rows = [tuple(map(plain, row)) for row in file.execute(f"SELECT * FROM {name}")]
        found[name] = sorted(rows, key=repr)
    file.close()
    return found


def plain(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str) and value[:1] in ("{", "[") else value


async def opened_and_closed(folder: Path) -> None:
    store = EmbeddedStore(folder)
    await store.open()
    await store.close()


def test_a_filled_folder_is_what_its_journal_makes(filled: Filled, tmp_path: Path):
    """The tables that a store makes anew from the journal alone have the rows that were filled in."""
    assert sum(filled.steps) == filled.users.profiles * filled.users.devices
    before = tables(filled.folder / "state.db")
    folder = copied(filled, tmp_path)
    for file in folder.glob("state.db*"):
        file.unlink()
    asyncio.run(opened_and_closed(folder))
    again = tables(folder / "state.db")
    assert before.keys() == again.keys()
    for name, rows in before.items():
        assert rows == again[name], name
    assert len(before["device"]) == filled.users.profiles * filled.users.devices


def test_a_filled_folder_has_the_users(filled: Filled):
    users = filled.users

    async def look() -> None:
        store = EmbeddedStore(filled.folder, read_only=True)
        await store.open()
        try:
            for number in (0, 7, users.profiles - 1):
                user = await store.user(users.mpid(number), "default")
                assert user is not None
                assert user.workspace is not None
                assert user.profile.space == SPACE
                held = {(type_, value) for type_, value, _ in user.profile.identities}
                assert ("customerid", customer_id(number)) in held
                stamps = {value for type_, value in held if type_ == "device_application_stamp"}
                assert stamps == {stamp(number, place) for place in range(users.devices)}
                shown = values_of(user.workspace.attributes)
                assert shown == {
                    name: tuple(value) if isinstance(value, list) else value
                    for name, value in users.values(number).items()
                }
                assert list(user.workspace.inputs) == [INPUT]
        finally:
            await store.close()

    asyncio.run(look())


@pytest.mark.parametrize("channel", ["web", "server"])
def test_batches_of_a_load_are_taken_in_by_a_filled_folder(filled: Filled, tmp_path: Path, channel: Any):
    """Returning users are found by their MPIDs or identities, new ones made, and nothing is set aside."""
    folder = copied(filled, tmp_path)
    source = WEB if channel == "web" else SERVER
    work = Batches(filled.users, channel, "k", "s")

    async def take() -> Counter[str]:
        store = EmbeddedStore(folder)
        await store.open()
        engine = Engine(store, await adopt_policies(store, {SCOPE: PolicySettings()}, lambda: 0))
        await engine.start()
        try:
            calls = [delivery(document, source, NOW_MS, scope=SCOPE) for document in documents(work, 300)]
            outcomes = await asyncio.gather(*engine.submit_all(calls))
            assert not await store.quarantined("default")
            return Counter(outcome.decision.trace.why for outcome in outcomes)
        finally:
            await engine.stop()
            await store.close()

    whys = asyncio.run(take())
    new = "new" if channel == "web" else "new_known_created"
    expected = {new: 60, "mpid_given": 240} if channel == "web" else {new: 60, "mpid_given": 120, "matched": 120}
    assert whys == expected


def test_crowds_have_as_many_events_and_devices_as_asked_for(tmp_path: Path):
    users = Users(20, devices=1, attributes=5, events=3, crowd=100)
    folder, steps = tmp_path / "data", []
    fill_users.fill_users(folder, users)
    add_crowds(folder, users, steps.append)
    assert sum(steps) == planned_batches(users) == 134
    state = tables(folder / "state.db")
    assert sum(row[-1] for row in state["activity"] if row[0] == users.mpid(BUSY)) == 102
    assert sum(row[0] == users.mpid(BUSY) for row in state["device"]) == 1
    assert sum(row[0] == users.mpid(CROWDED) for row in state["device"]) == 100
    assert not state["quarantined"]


def test_users_that_the_disk_has_no_room_for_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=50_000))
    with pytest.raises(NoRoom, match=r"--stored"):
        fill_users.fill_users(tmp_path / "data", USERS)


def test_rows_that_cannot_be_copied_stop_the_fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A user's batch that says something nobody else's says, and that is none of the user's values, is noticed."""
    real: Callable[..., dict[str, Any]] = stored_batch

    def odd(users: Users, sender: Sender, number: int, at_ms: int) -> dict[str, Any]:
        return real(users, sender, number, at_ms) | {"ip": f"192.0.2.{number % 251}"}

    monkeypatch.setattr(fill_users, "stored_batch", odd)
    with pytest.raises(ValueError, match="cannot be copied"):
        fill_users.fill_users(tmp_path / "data", USERS)


# -- what filling is made of ----------------------------------------------------------------------------------------


def test_a_patterns_rows_become_another_users():
    pattern = Pattern([7_000_000_001, "c-1", "100 %"], {b"k": (1, lambda value: f"<{value}>".encode())})
    body = '{"m":7000000001,"n":17000000001,"c":["c-1","c-10"],"100 %":-1,"at":44444444444400,"why":"50 %"}'
    names = ["key", "mpid", "checksum", "body"]
    columns = row_columns(pattern, names, [b"k", 7_000_000_001, 0, body])
    assert columns is not None
    values = [-5, "d-2", "x", *(NOW_MS + offset for offset in pattern.offsets)]
    key, mpid, checksum, text = (column(values) for column in columns)
    assert (key, mpid) == (b"<d-2>", -5)
    written = (
        f'{{"m":-5,"n":17000000001,"c":["d-2","c-10"],"x":-1,"at":{NOW_MS + 44444444444400 - TIME},"why":"50 %"}}'
    )
    assert text == written
    assert checksum == crc32(written.encode())
    assert row_columns(pattern, ["a", "b"], ["nothing of theirs", 5]) is None


def test_a_pattern_with_two_values_alike_or_a_digest_of_nothing_known_is_refused():
    with pytest.raises(ValueError, match="same"):
        Pattern([1, "a", "a"], {})
    with pytest.raises(ValueError, match="digest"):
        Pattern([1], {}).column(b"unknown")


def test_a_spool_gives_rows_back_by_their_keys(tmp_path: Path):
    spool = Spool(tmp_path, "<2sq")
    keys = [bytes([number * 7 % 256, number % 256]) for number in range(1000)]
    for number, key in enumerate(keys):
        spool.add(key, number)
    rows = [row for part in range(PARTS) for row in sorted(spool.part(part))]
    spool.close()
    assert rows == sorted((key, number) for number, key in enumerate(keys))
    assert not list(tmp_path.iterdir())


def test_batches_say_the_same_of_what_is_not_the_users_own():
    """Stored batches vary in nothing but ids, identities, attributes and times; those of a load vary in more."""
    one, other = (stored_batch(USERS, Sender(3, 1, 0, known=True), number, NOW_MS) for number in (5, 6))
    assert one["events"][0]["data"]["screen_name"] == other["events"][0]["data"]["screen_name"]
    texts = {
        batches.batch_text(USERS, Sender(3, 1, 0, known=True), number, NOW_MS, 1, web=True)
        .split('"screen_name":"')[1]
        .split('"')[0]
        for number in range(6)
    }
    assert len(texts) == 6
