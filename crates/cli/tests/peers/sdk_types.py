"""The types of the SDK `kernel`, strictly.

sdk_types.py read            reads events, one a line, and prints for each `ok`, or why the SDK's models refuse it.
sdk_types.py write           prints events that the SDK's models allow, one a line: each type with all fields and without
                         the optional ones, with each value of an enumeration, with fractions, with nulls.
"""

import json
import sys
import typing

import pydantic
from kernel.types.browsers.browser_telemetry_event import BrowserTelemetryEvent


def read() -> None:
    event = pydantic.TypeAdapter(BrowserTelemetryEvent)
    models = alternatives(BrowserTelemetryEvent)
    names = {model.__name__: values(model.model_fields["type"].annotation, 0)[0] for model in models}
    for line in sys.stdin:
        try:
            event.validate_json(line, strict=True)
            print("ok", flush=True)
        except pydantic.ValidationError as error:
            # Of all models, only the one of that type says something.
            kind = json.loads(line)["type"]
            why = [it for it in error.errors() if names.get(it["loc"][0]) == kind]
            print([(it["loc"][1:], it["msg"]) for it in why] or f"no such type: {kind}", flush=True)


def alternatives(kind):
    """The types that a field may have; for a type alias, those behind it."""
    kind = getattr(kind, "__value__", kind)
    if typing.get_origin(kind) is typing.Annotated:
        return alternatives(typing.get_args(kind)[0])
    if typing.get_origin(kind) is typing.Union:
        return [it for one in typing.get_args(kind) for it in alternatives(one)]
    return [kind]


def values(kind, depth):
    """Values of a type: each value of an enumeration, and more than one where numbers are concerned."""
    found = []
    for one in alternatives(kind):
        origin, args = typing.get_origin(one), typing.get_args(one)
        if origin is typing.Literal:
            found += args
        elif origin is list:
            found += [[value] for value in values(args[0], depth)] + [[]]
        elif origin is dict:
            found += [{"a": value} for value in values(args[1], depth)] + [{}]
        elif one is type(None):
            found.append(None)
        elif one is str:
            found += ["text", ""]
        elif one is bool:
            found += [True, False]
        elif one is int:
            found += [7, 0]
        elif one is float:
            found += [1.5, 7, 0]
        elif one is object:
            found += ["text", 1, 1.5, True, None, ["a", "b"], {"b": 1}]
        elif isinstance(one, type) and issubclass(one, pydantic.BaseModel):
            # A stack trace has a parent of the same type.
            found += variants(one, depth + 1) if depth < 4 else []
        else:
            raise TypeError(f"{one} in a model of the SDK: the test does not know it")
    return found


def variants(model, depth=0):
    """Objects of a model: all fields, only the required ones, and all fields with each value of one field."""
    model.model_rebuild()
    fields = [
        (field.alias or name, field.is_required(), values(field.annotation, depth))
        for name, field in model.model_fields.items()
    ]
    whole = {alias: choice[0] for alias, _, choice in fields if choice}
    found = [whole, {alias: choice[0] for alias, required, choice in fields if required}]
    for alias, required, choice in fields:
        found += [whole | {alias: value} for value in choice[1:]]
        if not required:
            found.append({key: value for key, value in whole.items() if key != alias})
    # The models allow keys that they do not have.
    found.append(whole | {"new_key": {"deep": [1.5, None]}})
    return found


def write() -> None:
    event = pydantic.TypeAdapter(BrowserTelemetryEvent)
    for model in alternatives(BrowserTelemetryEvent):
        for variant in variants(model):
            line = json.dumps(variant)
            event.validate_json(line, strict=True)
            print(line, flush=True)


{"read": read, "write": write}[sys.argv[1]]()
