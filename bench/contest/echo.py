"""A server that does nothing: `python echo.py PORT BYTES`. What it takes is what the sender and the loopback take."""

import asyncio
import sys


class Echo(asyncio.Protocol):
    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        # Requests here are smaller than what one read brings, and each connection has one in flight.
        self.transport.write(self.answer)


async def main(port: int, length: int) -> None:
    Echo.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + bytes(length)
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
