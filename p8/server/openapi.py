"""The OpenAPI 3.1 document, made of the same table and shapes that requests are held to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from p8.server import problems, shapes

if TYPE_CHECKING:
    from p8.server.routes import Route

REF = "#/components/schemas/{model}"
WHY = {
    400: "It has not the shape of this document.", 401: "No key, or not the right one.", 403: "Not from here.",
    404: "There is none.",
    408: "Not in time.", 409: "Its state does not allow it, or it has changed.", 413: "Too large.",
    415: "Not JSON.", 422: "It makes no sense here.", 424: "The container engine, or what else this needs, is away.",
    503: "The store is out of reach, or too much is asked at a time.",
}  # fmt: skip


def document(routes: Iterable[Route], parts: Mapping[str, str]) -> bytes:
    """Return the document."""
    from p8 import __version__

    known = list(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in known:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, parts)
    models = [one for one in vars(shapes).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    _, schemas = models_json_schema(
        [(one, "validation" if issubclass(one, shapes.Given) else "serialization") for one in models
         if one not in {BaseModel, shapes.Given, shapes.Told}],
        ref_template=REF,
    )  # fmt: skip
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "P8", "version": __version__,
            "description": "Sessions, checkpoints and instances of P8 on this machine. Errors are RFC 9457 problems.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"], "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }  # fmt: skip
    return orjson.dumps(made)


def _operation(route: Route, parts: Mapping[str, str]) -> dict[str, Any]:
    named = re.findall(r"{(\w+)}", route.path)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": parts[name]}}
        for name in named
    ]
    if route.query is not None:
        schema = route.query.model_json_schema()
        for name, field in schema["properties"].items():
            what = {key: value for key, value in field.items() if key not in {"title", "description"}}
            one = {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": what}
            parameters.append(one | ({"description": field["description"]} if "description" in field else {}))
    answer = TypeAdapter(route.answer).json_schema(ref_template=REF, mode="serialization")
    answer.pop("$defs", None)
    codes = [400, 401, 403, 409, 422, 503]
    codes += [400, 404] if named or route.query is not None else []
    codes += [400, 404, 408, 413, 415] if route.body is not None else []
    codes += [424] if route.engine or "instance" in named else []
    found: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "tags": [route.path.removeprefix("/api/v1/").split("/")[0]],
        "parameters": parameters,
        "responses": {
            str(route.status): {"description": "Done.", "content": {"application/json": {"schema": answer}}},
            **{str(code): _problem(code) for code in sorted(set(codes))},
        },
    }
    if route.policy == "open":
        found["security"] = []
    if route.body is not None:
        reference = {"$ref": REF.format(model=route.body.__name__)}
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    return found


def _name(route: Route) -> str:
    if route.policy == "open":
        return "ping"
    return re.sub(r"\W+", "_", f"{route.method}{route.path}".replace("/api/v1", "")).strip("_").lower()


def _problem(code: int) -> dict[str, Any]:
    reference = {"$ref": REF.format(model=shapes.Problem.__name__)}
    return {"description": WHY[code], "content": {problems.TYPE: {"schema": reference}}}
