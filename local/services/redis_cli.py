"""A replacement for `redis-cli` on machines without it. It runs one command per call and prints like redis-cli.

Takes `-h HOST`, `-p PORT`, `-n DB` (else `REDIS_HOST`, `REDIS_PORT`, `REDIS_DB`), `--raw` and `-x` (the last argument
from standard input). The password comes from `REDISCLI_AUTH` or `REDIS_PASSWORD`, never from the command line.
"""

from __future__ import annotations

import argparse
import os
import sys

import redis


def shown(value: object, *, raw: bool, indent: str = "") -> str:
    """Return an answer as text, formatted as redis-cli does on a terminal; unformatted if `raw`."""
    if isinstance(value, list | tuple | set):
        return _array(list(value), raw=raw, indent=indent)
    if isinstance(value, bytes):
        text = value.decode("utf-8", "backslashreplace")
        return text if raw else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if value is None:
        return "" if raw else "(nil)"
    return f"(integer) {value}" if isinstance(value, int) and not raw else str(value)


def _array(items: list[object], *, raw: bool, indent: str) -> str:
    if raw:
        return "\n".join(shown(item, raw=True) for item in items)
    if not items:
        return "(empty array)"
    width = len(str(len(items)))
    deeper = indent + " " * (width + 2)
    lines = [f"{number:>{width}}) {shown(item, raw=False, indent=deeper)}" for number, item in enumerate(items, 1)]
    return f"\n{indent}".join(lines)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="redis-cli", add_help=False, description=__doc__)
    parser.add_argument("-h", dest="host", default=os.environ.get("REDIS_HOST", "127.0.0.1"))
    parser.add_argument("-p", dest="port", type=int, default=int(os.environ.get("REDIS_PORT", "6379")))
    parser.add_argument("-n", dest="database", type=int, default=int(os.environ.get("REDIS_DB", "0")))
    parser.add_argument("--raw", action="store_true", default=not sys.stdout.isatty())
    parser.add_argument("-x", dest="stdin", action="store_true")
    parser.add_argument("--help", action="help")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args(argv)
    if not arguments.command:
        parser.error("give a command, for example: redis-cli LLEN queue:unpack")
    return arguments


def main(argv: list[str]) -> int:
    arguments = _arguments(argv)
    password = os.environ.get("REDISCLI_AUTH") or os.environ.get("REDIS_PASSWORD") or None
    words: list[str | bytes] = list(arguments.command)
    if arguments.stdin:
        words.append(sys.stdin.buffer.read())
    client = redis.Redis(arguments.host, arguments.port, arguments.database, password, protocol=2)
    client.response_callbacks.clear()  # keep the server's answers: 1 stays 1, OK stays OK
    try:
        answer = client.execute_command(*words)  # type: ignore[no-untyped-call]
    except redis.ResponseError as error:
        print(f"(error) {error}")
        return 1
    except redis.RedisError as error:
        print(f"Could not talk to Redis at {arguments.host}:{arguments.port}: {error}", file=sys.stderr)
        return 1
    finally:
        client.close()
    print(shown(answer, raw=arguments.raw))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
