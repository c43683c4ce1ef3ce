"""Words to annotate settings with, and the check of values by annotations.

A part says what its settings may be in its signature, e.g. `k: Count = 1`. By it, `check_settings` checks a group of the
configuration before anything is built, and `checked` what a library user passes. Tensors, modules and other objects are
never looked at, and NaN and infinity are no numbers.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, wraps
from types import NoneType, SimpleNamespace
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from annotated_types import Ge, Gt, Interval, Len
from pydantic import ConfigDict, TypeAdapter, ValidationError

from reldrop.utils.errors import ReldropError
from reldrop.utils.text import unknown

Count = Annotated[int, Ge(1)]
WholeNumber = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
PositiveFraction = Annotated[float, Interval(gt=0, le=1)]
FractionBelowOne = Annotated[float, Interval(ge=0, lt=1)]
OpenFraction = Annotated[float, Interval(gt=0, lt=1)]
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]
Text = str | float  # YAML reads a name that looks like a number as one
Two = Len(2, 2)  # of a sequence
Group = Mapping[str, Any]  # of settings

Target = TypeVar("Target", bound=Callable[..., Any])

# Strict: "no" is no bool, 1.5 and true are no int. An int is a float.
STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
WORDS = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "sequence_str": "a list",
    "list_type": "a list",
    "tuple_type": "a list",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "none_required": "null",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "too_short": "a list of at least {min_length} values",
    "too_long": "a list of at most {max_length} values",
}


@cache
def schema(target: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    """Return a validator for each parameter of a class or function; one without a usable annotation takes anything."""
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    validators: dict[str, TypeAdapter[Any]] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        validators[name] = TypeAdapter(Any)
        with suppress(Exception):  # imported for type checkers only, or of a kind that pydantic does not know
            own = SimpleNamespace(__annotations__={name: function.__annotations__[name]})
            hint = get_type_hints(own, function.__globals__, include_extras=True)[name]
            validators[name] = TypeAdapter(hint, config=STRICT)
    return validators


def check_settings(settings: Mapping[str, Any], target: Callable[..., Any], group: str = "") -> None:
    """Refuse settings, as YAML gives them, that `target` does not take: by name, type, range or choice.

    Args:
        settings: values by key. `_target_` and other keys of Hydra's are not looked at, nor is a `name` that `target` does
            not take: it is that of the choice.
        target: class or function whose parameters they are.
        group: of the configuration, for the message.

    Raises:
        ReldropError: naming key, value and what would be right.
    """
    known, prefix = schema(target), f"{group}." if group else ""
    takes_any = any(each.kind is each.VAR_KEYWORD for each in inspect.signature(target).parameters.values())
    for key, value in settings.items():
        if key in ("_target_", "_partial_", "_convert_", "_recursive_") or (key == "name" and key not in known):
            continue
        if key not in known:
            if takes_any:
                continue
            keys = [prefix + each for each in known]
            raise ReldropError(unknown(f"{prefix}{key} is not a setting", prefix + key, keys))
        if isinstance(value, Mapping) and "_target_" in value:  # an object
            continue
        if wanted := _wanted(known[key], value):
            several = isinstance(value, list) and value and "list" not in wanted and "index" not in wanted
            hint = f"; for several runs: -m {prefix}{key}={','.join(map(str, value))}" if several else ""
            raise ReldropError(f"{prefix}{key}={shown(value)} must be {wanted}{hint}")


def check_values(values: Mapping[str, Any], target: Callable[..., Any]) -> None:
    """Refuse wrong values of parameters of `target`; for the `__post_init__` of dataclasses, whose subclasses inherit it.

    Only numbers, text, None, and lists and mappings are checked.

    Raises:
        ReldropError: naming key, value and what would be right.
    """
    for key, value in values.items():
        validator = schema(target).get(key)
        if validator is not None and (wanted := _wanted(validator, value)):
            raise ReldropError(f"{key}={shown(value)} must be {wanted}")


def checked(target: Target) -> Target:
    """Decorate a class or a function: wrong values of its parameters raise `ReldropError`, see `check_values`."""
    function = target.__init__ if inspect.isclass(target) else target
    signature = inspect.signature(function)

    @wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        check_values(signature.bind(*args, **options).arguments, target)
        return function(*args, **options)

    if inspect.isclass(target):
        target.__init__ = wrapper
        return target
    return wrapper


def whole_as_int(value: Any) -> Any:
    """Return an int for a whole number, anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def shown(value: Any) -> str:
    """Return a value as YAML would have it, but text in quotes."""
    return repr(value) if isinstance(value, str | float) else json.dumps(value, default=str)


def _wanted(validator: TypeAdapter[Any], value: Any) -> str:
    """Return what a value must be that does not pass, or nothing."""
    try:
        validator.validate_json(json.dumps(value))  # strict about JSON: a list may be a tuple, text a path
    except TypeError:  # no numbers and text alone
        return ""
    except ValidationError as error:
        wanted = []
        for each in error.errors():
            if each["type"] in ("is_instance_of", "needs_python_object"):
                continue
            known = WORDS.get(each["type"])
            bounds = {key: whole_as_int(value) for key, value in each.get("ctx", {}).items()}
            word = known.format(**bounds) if known else each["msg"].removeprefix("Input should be ")
            index = next((step for step in each["loc"] if isinstance(step, int)), None)
            wanted.append(word if index is None else f"{word} at index {index}")
        if wanted and NoneType in get_args(validator._type):
            wanted.append("null")
        return " or ".join(dict.fromkeys(wanted))
    return ""
