from __future__ import annotations

import asyncio

from gateway.websocket.read_turns import CONNECTIONS_PER_TURN, ReadTurns


def test_of_many_with_more_than_a_turns_worth_few_go_on_in_a_turn() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        line, turn, went = ReadTurns(), 0, []

        class Waiting:
            def take_turn(self) -> None:
                went.append(turn)

        for _ in range(3 * CONNECTIONS_PER_TURN):
            line.join(loop, Waiting())
        while len(went) < 3 * CONNECTIONS_PER_TURN:
            turn += 1
            await asyncio.sleep(0)
        return went

    for _ in range(2):  # a loop that has ended leaves nothing behind for the next one of its thread
        assert asyncio.run(main()) == sorted([1, 2, 3] * CONNECTIONS_PER_TURN)
