"""Options of a run as arguments of the command line, and back. The standard library alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from functools import partial

from sessions.disk.option_table import Option, Value


class _Store(argparse.Action):
    """Stores the value, `--` too, of which argparse before Python 3.13 makes an empty list."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if values == []:
            if self.type is not str:
                parser.error(f"argument {option_string}: invalid value: '--'")
            values = "--"
        setattr(namespace, self.dest, values)


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    """Have the parser take these; what is not said is None."""
    for option in options:
        if option.kind is bool:
            _add_bool(parser, option)
        else:
            add = partial(
                parser.add_argument,
                *filter(None, (option.flag, option.also)),
                dest=option.name,
                action=_Store,
                type=str if option.kind is str and option.listed is None else _reader(option),
                metavar=option.metavar,
                help=option.help,
            )
            _ = add() if option.bare is None else add(nargs="?", const=option.bare)


def _reader(option: Option) -> Callable[[str], Value]:
    """The option's values from text, with the sentence that argparse shows."""

    def read(text: str) -> Value:
        try:
            return option.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _add_bool(parser: argparse.ArgumentParser, option: Option) -> None:
    if not option.negative:
        parser.add_argument(option.flag, dest=option.name, action="store_true", default=None, help=option.help)
    elif option.negative == f"--no-{option.flag[2:]}":
        parser.add_argument(
            option.flag, dest=option.name, action=argparse.BooleanOptionalAction, default=None, help=option.help
        )
    else:
        either = parser.add_mutually_exclusive_group()
        either.add_argument(
            option.negative, dest=option.name, action="store_false", default=None, help=option.negative_help
        )
        either.add_argument(option.flag, dest=option.name, action="store_true", default=None, help=option.help)


def said(arguments: argparse.Namespace, options: Iterable[Option]) -> dict[str, Value | None]:
    """What was said of these, by the option's name."""
    return {option.name: getattr(arguments, option.name) for option in options}
