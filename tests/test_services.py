"""The tests' own services end and come back as the tests ask."""

import asyncpg
import pytest
from redis import Redis as Client
from redis.exceptions import ConnectionError as Refused

from tests.services import Database, Postgres, Redis


async def test_each_test_has_a_database_of_its_own(postgres: Database) -> None:
    """The database is new, and asyncpg reaches it by its address."""
    connection = await asyncpg.connect(postgres.url)
    await connection.execute("CREATE TABLE kept (number int)")
    await connection.close()

    assert postgres.sql("SELECT count(*) FROM pg_class WHERE relname = 'kept'") == "1"


def test_postgres_keeps_its_data_through_a_stop_and_a_kill(own_postgres: Postgres) -> None:
    """It comes back at the same address with what was committed, also after kill -9."""
    own_postgres.sql("CREATE TABLE kept (number int)")
    own_postgres.stop()
    own_postgres.start()
    own_postgres.sql("INSERT INTO kept VALUES (7)")
    own_postgres.kill()
    own_postgres.start()

    assert own_postgres.sql("SELECT * FROM kept") == "7"


def test_redis_is_empty_at_the_start(redis: Redis) -> None:
    """What another test left is gone."""
    with Client.from_url(redis.url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_redis_comes_back_after_a_kill(own_redis: Redis) -> None:
    """It is gone when killed, and answers at the same address when started again."""
    own_redis.kill()
    with Client.from_url(own_redis.url) as client:
        with pytest.raises(Refused):
            client.ping()
        own_redis.start()

        assert client.ping()
