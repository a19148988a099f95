"""Threads are shared between tenants: whoever asks a lot waits for themselves."""

import asyncio

from service.access.turns import Turns


async def _crowd(turns: Turns, tenant: str, count: int, let_go: asyncio.Event, inside: list[str]) -> None:
    async def one() -> None:
        async with turns.one(tenant):
            inside.append(tenant)
            await let_go.wait()
            inside.remove(tenant)

    await asyncio.gather(*(one() for _ in range(count)))


def test_a_tenant_waits_for_itself_and_nobody_else() -> None:
    async def story() -> None:
        turns, let_go = Turns(3), asyncio.Event()
        inside: list[str] = []
        many = asyncio.create_task(_crowd(turns, "many", 50, let_go, inside))
        few = asyncio.create_task(_crowd(turns, "few", 2, let_go, inside))
        while len(inside) < 5:
            await asyncio.sleep(0)
        assert sorted(inside) == ["few"] * 2 + ["many"] * 3
        let_go.set()
        await asyncio.gather(many, few)
        assert inside == []

    asyncio.run(story())


def test_nothing_is_kept_of_who_has_left_also_by_giving_up() -> None:
    async def story() -> None:
        turns, let_go = Turns(1), asyncio.Event()
        crowd = asyncio.create_task(_crowd(turns, "a", 3, let_go, []))
        await asyncio.sleep(0.01)
        crowd.cancel()
        await asyncio.gather(crowd, return_exceptions=True)
        await asyncio.sleep(0.01)
        async with turns.one("a"):
            pass
        assert vars(turns) == vars(Turns(1))

    asyncio.run(story())
