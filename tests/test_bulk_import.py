"""Rows that are imported are applied, in their order and once, however often an import is stopped or repeated."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bulk_files import json_lines, parquet, written, zipped
from bulk_world import Desk, request_ids
from engine_at_work import FullDisk
from oneself.bulk import BulkError, Import
from oneself.bulk.model import CHUNK_ROWS
from oneself.errors import StoreUnavailable

NOW_MS = 1_700_000_000_000
EVENT_TIME = "events.data.timestamp_unixtime_ms"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk at an empty folder."""
    return Desk(tmp_path)


def people(folder: Path, count: int, name: str = "people.csv", bad: int = 0) -> Path:
    """Write a table of customers, each ``bad``-th of them without an identity."""
    lines = ["user_identities.customerid,user_attributes.number"]
    lines += [f"{'' if bad and n % bad == 0 else f'C-{n}'},{n}" for n in range(1, count + 1)]
    return written(folder / name, "\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "zip"])
def test_what_is_imported_is_read_back(desk: Desk, tmp_path: Path, kind: str) -> None:
    match kind:
        case "jsonl":
            rows = [{"user_identities": {"customer_id": c}, "user_attributes": {"plan": p}} for c, p in ("ax", "by")]
            path = written(tmp_path / "a.jsonl", json_lines(rows))
        case "csv":
            path = written(tmp_path / "a.csv", "user_identities.customerid,user_attributes.plan\na,x\nb,y\n")
        case "parquet":
            path = parquet(tmp_path / "a.parquet", customer_id=["a", "b"], plan=["x", "y"])
        case _:
            members = {f"{c}.csv": f"user_identities.other2,user_attributes.plan\n{c},{c}\n" for c in "cd"}
            members["e-eventless.csv"] = "user_identities.customerid,user_attributes.plan\na,x\nb,y\n"
            path = zipped(tmp_path / "a.zip", members)
    counts = desk.take(path)
    assert (counts.taken, counts.rejected) == (4 if kind == "zip" else 2, 0)
    assert desk.attributes("a", "b", "z") == [{"plan": "x"}, {"plan": "y"}, None]
    assert desk.rejected() == []
    assert not (desk.folder / "import.json").exists()


def test_of_rows_of_one_user_the_later_one_counts(desk: Desk, tmp_path: Path) -> None:
    count = 2 * CHUNK_ROWS + 5
    path = parquet(tmp_path / "a.parquet", customer_id=["a"] * count, n=range(count))
    desk.take(path, input="shop/feed")
    assert desk.attributes("a") == [{"n": str(count - 1)}]


def test_events_are_taken_in_with_their_times(desk: Desk, tmp_path: Path) -> None:
    content = f"user_identities.customerid,events.data.screen_name,{EVENT_TIME}\na,Home,{NOW_MS}\n"
    desk.take(written(tmp_path / "a-screen_view.csv", content))
    [(_, record)] = desk.batches()
    assert record.batch is not None
    [event] = record.batch.events
    assert (event.type, event.name, event.at_ms) == ("screen_view", "Home", NOW_MS)


def test_the_same_file_is_applied_once_under_any_name(desk: Desk, tmp_path: Path) -> None:
    path = people(tmp_path, 50)
    assert desk.take(path).repeated == 0
    counts = desk.take(path.rename(tmp_path / "other.csv"))
    assert (counts.taken, counts.repeated) == (50, 50)
    assert len(desk.batches()) == 50
    assert desk.take(people(tmp_path, 51)).repeated == 0, "another content is another file"


def test_the_same_file_read_another_way_or_by_another_input_is_another_import(desk: Desk, tmp_path: Path) -> None:
    path = people(tmp_path, 3)
    desk.take(path)
    assert desk.take(path, environment="development").repeated == 0
    assert desk.take(path, input="shop/feed").repeated == 0
    assert len(desk.batches()) == 9
    assert desk.attributes("C-1", "C-3", environment="development") == [{"number": "1"}, {"number": "3"}]


def test_an_id_that_a_row_has_is_its_id(desk: Desk, tmp_path: Path) -> None:
    rows = [{"user_identities": {"customer_id": "a"}, "source_request_id": id_} for id_ in ("r-1", "r-1", "r-2")]
    assert desk.take(written(tmp_path / "a.jsonl", json_lines(rows))).repeated == 1
    assert request_ids(desk.batches()) == {"r-1": 1, "r-2": 1}


def test_a_file_cannot_be_given_twice(desk: Desk, tmp_path: Path) -> None:
    first, second = people(tmp_path, 3), people(tmp_path, 3, "again.csv")
    with pytest.raises(BulkError, match=r"again\.csv has the same content"):
        desk.take(first, second)


def test_a_file_that_cannot_be_stops_all_before_anything_is_applied(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(BulkError, match="no column says whose"):
        desk.take(people(tmp_path, 3), written(tmp_path / "b.csv", "user_attributes.a\n1\n"))
    assert not (desk.folder / "data").exists()


def test_rows_that_cannot_be_used_are_told_and_the_rest_is_applied(desk: Desk, tmp_path: Path) -> None:
    head = "user_identities.customerid,mpid,environment,events.data.screen_name,events.data.timestamp_unixtime_ms"
    lines = [
        head,
        "a,,,Home,",
        ",,,Home,",
        "b,x,,Home,",
        "c,,test,Home,",
        "d,,,,",
        "e,,,Home,soon",
        "f,77,,Home,",
        "g,,,Home",
    ]
    path = written(tmp_path / "a-screen_view.csv", "\n".join(lines))
    counts = desk.take(path)
    assert (counts.taken, counts.rejected, counts.rows) == (1, 7, 8)
    assert [(bad["line"], bad["reason"]) for bad in desk.rejected()] == [
        (3, "it has no MPID and no identity of a user or a device"),
        (4, "mpid: must be a 64-bit integer other than 0, as a number or a string"),
        (5, "environment: must be production or development"),
        (6, "events: data.screen_name is missing"),
        (7, "events.data.timestamp_unixtime_ms: 'soon' is no whole number"),
        (8, "mpid: no user has the MPID 77."),
        (9, "it has 4 cells, and there are 5 columns"),
    ]
    assert {bad["file"] for bad in desk.rejected()} == {str(path)}
    assert desk.rejected()[3]["row"] == {
        "user_identities": {"customerid": "d"},
        "events": [{"event_type": "screen_view", "data": {}}],
    }


def test_a_bad_event_among_others_is_set_aside_and_told(desk: Desk, tmp_path: Path) -> None:
    good = {"event_type": "session_start", "data": {}}
    bad = {"event_type": "screen_view", "data": {}}
    row = {"user_identities": {"customer_id": "a"}, "events": [good, bad], "user_attributes": {"plan": "x"}}
    path = written(tmp_path / "a.jsonl", json_lines([row]))
    for _ in range(2):
        counts = desk.take(path)
        assert (counts.taken, counts.rejected, counts.set_aside) == (1, 0, 1)
        assert desk.rejected() == [
            {
                "file": str(path),
                "line": 1,
                "reason": "events[1]: data.screen_name is missing; the rest of the batch was taken in",
                "row": bad,
            }
        ]
    [(_, record)] = desk.batches()
    assert record.batch is not None
    assert [event.type for event in record.batch.events] == ["session_start"]
    assert desk.attributes("a") == [{"plan": "x"}]


def test_the_environment_is_that_of_the_row_then_that_of_the_command(desk: Desk, tmp_path: Path) -> None:
    content = "user_identities.customerid,environment\na,\nb,development\nc,production\n"
    desk.take(written(tmp_path / "a.csv", content), environment="development")
    assert desk.attributes("a", "b", "c", environment="development") == [{}, {}, None]
    assert desk.attributes("a", "b", "c") == [None, None, {}]


def test_an_input_that_may_only_update_drops_rows_of_unknown_users(desk: Desk, tmp_path: Path) -> None:
    desk.take(people(tmp_path, 2))
    path = written(tmp_path / "b.csv", "user_identities.customerid,user_attributes.vip\nC-1,y\nC-9,y\n")
    counts = desk.take(path, input="shop/careful")
    assert (counts.taken, counts.unknown, counts.rejected) == (1, 1, 0)
    assert desk.attributes("C-1", "C-9") == [{"number": "1", "vip": "y"}, None]


def test_historical_rows_must_be_old(desk: Desk, tmp_path: Path) -> None:
    content = f"user_identities.customerid,events.data.screen_name,{EVENT_TIME}\na,Home,{NOW_MS}\nb,Home,\n"
    counts = desk.take(written(tmp_path / "a-screen_view.csv", content), historical=True)
    assert (counts.taken, counts.rejected) == (1, 1)
    [(_, record)] = desk.batches()
    assert record.batch is not None
    assert record.batch.historical


def test_a_platform_row_has_its_address(desk: Desk, tmp_path: Path) -> None:
    row = {"user_identities": {"customer_id": "a"}, "ip": "192.0.2.7"}
    desk.take(written(tmp_path / "a.jsonl", json_lines([row])), input="shop/web")
    [(_, record)] = desk.batches()
    assert record.batch is not None
    assert record.batch.ip == "192.0.2.7"


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_import_that_is_stopped_goes_on_where_it_was(desk: Desk, tmp_path: Path, kind: str) -> None:
    count = 4 * CHUNK_ROWS + 10
    who = ["" if n % 700 == 0 else f"C-{n}" for n in range(1, count + 1)]
    if kind == "csv":
        path = people(tmp_path, count, bad=700)
    elif kind == "parquet":
        path = parquet(
            tmp_path / "a.parquet", rows=1_500, customer_id=[c or None for c in who], number=range(1, count + 1)
        )
    else:
        rows = ({"mpid": None if c else "x", "user_identities": {"customer_id": c}} for c in who)
        path = written(tmp_path / "a.jsonl", json_lines(rows))
    assert desk.take(people(tmp_path, 1, "before.csv")).taken == 1
    done = False
    resumed = []
    while not done:
        run = asyncio.run(desk.run(path, watch=Import.stop))
        resumed.append(run.resumed_rows)
        done = run.done
    assert resumed == sorted(set(resumed))
    assert len(resumed) >= 3
    assert run.counts.rows == count
    assert run.counts.repeated == 0
    assert len(desk.batches()) == 1 + run.counts.taken
    assert set(request_ids(desk.batches()).values()) == {1}
    told = desk.rejected()
    assert len(told) == run.counts.rejected == count // 700
    assert len({bad["line"] for bad in told}) == len(told)


def test_what_was_told_after_the_last_checkpoint_is_told_once(desk: Desk, tmp_path: Path) -> None:
    path = people(tmp_path, 4 * CHUNK_ROWS, bad=300)
    assert not asyncio.run(desk.run(path, watch=Import.stop)).done
    before = desk.rejects.read_bytes()
    assert before
    desk.rejects.write_bytes(before + before[: len(before) // 2])
    desk.take(path)
    assert [bad["line"] for bad in desk.rejected()] == [1 + n for n in range(300, 4 * CHUNK_ROWS + 1, 300)]


def test_several_files_go_on_in_the_middle(desk: Desk, tmp_path: Path) -> None:
    paths = [
        people(tmp_path, 10, "a.csv", bad=5),
        people(tmp_path, CHUNK_ROWS * 3, "b.csv", bad=500),
        people(tmp_path, 20, "c.csv", bad=4),
    ]
    done, runs = False, 0
    while not done:
        run = asyncio.run(desk.run(*paths, watch=Import.stop))
        done, runs = run.done, runs + 1
    assert runs >= 3
    assert (run.counts.rows, run.counts.repeated) == (3_030, 0)
    assert run.counts.rejected == len(desk.rejected()) == 2 + 6 + 5
    assert run.counts.taken == len(desk.batches())


def test_without_its_checkpoint_a_stopped_import_still_applies_nothing_twice(desk: Desk, tmp_path: Path) -> None:
    path = people(tmp_path, 3 * CHUNK_ROWS)
    assert not asyncio.run(desk.run(path, watch=Import.stop)).done
    (desk.folder / "import.json").unlink()
    counts = desk.take(path)
    assert counts.taken == 3 * CHUNK_ROWS
    assert 0 < counts.repeated < counts.taken
    assert set(request_ids(desk.batches()).values()) == {1}


@pytest.mark.parametrize("content", [b"", b"{", b'{"job": "another", "piece": 0, "row": 999}', b"[]"])
def test_a_checkpoint_of_something_else_counts_for_nothing(desk: Desk, tmp_path: Path, content: bytes) -> None:
    (desk.folder / "import.json").write_bytes(content)
    assert desk.take(people(tmp_path, 5)).taken == 5
    assert len(desk.batches()) == 5


def test_a_checkpoint_counts_for_nothing_where_the_journal_is_older(desk: Desk, tmp_path: Path) -> None:
    path = people(tmp_path, 3 * CHUNK_ROWS)
    assert not asyncio.run(desk.run(path, watch=Import.stop)).done
    for file in (desk.folder / "data").iterdir():
        file.unlink()
    assert desk.take(path).taken == 3 * CHUNK_ROWS
    assert len(desk.batches()) == 3 * CHUNK_ROWS


def test_where_the_disk_fails_the_import_ends_and_the_next_one_goes_on(tmp_path: Path) -> None:
    path = people(tmp_path, 5 * CHUNK_ROWS, bad=900)
    for refused_after in (0, 1, 2):
        desk = Desk(tmp_path / str(refused_after), Failing.after(refused_after))
        with pytest.raises(StoreUnavailable, match="disk is full"):
            desk.take(path)
        desk.store_type = FullDisk
        counts = desk.take(path)
        assert counts.rows == 5 * CHUNK_ROWS
        assert set(request_ids(desk.batches()).values()) == {1}
        assert len(desk.batches()) == counts.taken
        assert len(desk.rejected()) == counts.rejected == 5


class Failing(FullDisk):
    """A store whose disk is full for one commit, after some that went well."""

    before = 0

    @classmethod
    def after(cls, commits: int) -> type[Failing]:
        """Return a store that takes some commits first."""
        return type("FailingAfter", (cls,), {"before": commits})

    def _sync(self) -> None:
        if self.before == 0:
            self.refusals = 1
        self.before -= 1
        super()._sync()


def test_a_file_that_is_damaged_further_on_is_applied_as_far_as_it_goes(desk: Desk, tmp_path: Path) -> None:
    path = people(tmp_path, 5 * CHUNK_ROWS, "a.csv.gz")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BulkError, match="cut short"):
        desk.take(path)
    read = len(desk.batches())
    assert CHUNK_ROWS <= read < 5 * CHUNK_ROWS
    run_again = pytest.raises(BulkError, match="cut short")
    with run_again:
        desk.take(path)
    assert len(desk.batches()) == read


def test_a_rejects_file_that_cannot_be_written_is_told(desk: Desk, tmp_path: Path) -> None:
    desk.rejects = tmp_path / "absent" / "rejects.jsonl"
    with pytest.raises(BulkError, match=r"rejects\.jsonl cannot be written: No such file.*--rejects"):
        desk.take(people(tmp_path, 3, bad=1))
    desk.rejects = tmp_path
    with pytest.raises(BulkError, match="cannot be written"):
        desk.take(people(tmp_path, 3))
