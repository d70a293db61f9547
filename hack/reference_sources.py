"""What the reference pages are made of: facts read from the code, by import where that works, else from its syntax tree.

`reference.py` turns them into pages. Nothing here is written twice: a fact that changes in the code changes here.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from carbon_scheduler import config, errors
from carbon_scheduler.observe import metrics as observed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHECKOUT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = CHECKOUT / "src/carbon_scheduler"
STAND_INS: Final = ("sim",)
"""Parts that imitate others: what they read, write and say is not the scheduler's."""


@cache
def modules() -> dict[str, ast.Module]:
    """Module name -> its tree, without the stand-ins. Sorted by name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in STAND_INS:
            name = ".".join(("carbon_scheduler", *(part for part in parts if part != "__init__")))
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def calls() -> Iterator[tuple[str, ast.Call]]:
    """(module, call) for every call in the code, in the order of the text."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield name, node


# -- configuration


@dataclass(frozen=True)
class Key:
    """One key of the configuration. `allowed` is a sentence for people, `meaning` its docstring."""

    name: str
    variable: str
    type: str
    default: str
    allowed: str
    meaning: str


@dataclass(frozen=True)
class Section:
    name: str
    meaning: str
    keys: tuple[Key, ...]


def sections() -> list[Section]:
    """The configuration's sections in the order of declaration; the first, named "", has the keys without one."""
    variables = {path: variable for variable, path in config.keys().items()}
    described = attribute_docstrings("carbon_scheduler.config")
    own: list[Key] = []
    found: list[Section] = []

    def key(owner: type, field: msgspec.structs.FieldInfo, path: tuple[str, ...]) -> Key:
        kind, allowed = _kind(msgspec.inspect.type_info(field.type))
        default = "" if field.default in ("", None) else f"`{field.default}`"
        meaning = described.get((owner.__name__, field.name), "")
        return Key(".".join(path), variables[path], kind, default, allowed, meaning)

    for field in msgspec.structs.fields(config.Config):
        section = field.type
        if isinstance(section, type) and issubclass(section, msgspec.Struct):
            inner = tuple(key(section, f, (field.name, f.name)) for f in msgspec.structs.fields(section))
            found.append(Section(field.name, paragraph(section.__doc__), inner))
        elif (field.name,) in variables:
            own.append(key(config.Config, field, (field.name,)))
    return [Section("", paragraph(config.Config.__doc__), tuple(own)), *found]


def _kind(info: msgspec.inspect.Type) -> tuple[str, str]:
    """(type, what is allowed) in words."""
    match info:
        case msgspec.inspect.Metadata(type=inner):
            return _kind(inner)
        case msgspec.inspect.LiteralType(values=values):
            return "word", ", ".join(f"`{value}`" for value in _as_declared(values))
        case msgspec.inspect.UnionType(types=types):
            given = next(one for one in types if not isinstance(one, msgspec.inspect.NoneType))
            kind, allowed = _kind(given)
            return kind, f"{allowed}, or nothing"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType():
            low = f"above {info.gt:g}" if info.gt is not None else f"{info.ge:g}" if info.ge is not None else ""
            kind = "integer" if isinstance(info, msgspec.inspect.IntType) else "number"
            return kind, f"{low} to {info.le:g}" if info.le is not None and low else low
        case msgspec.inspect.StrType():
            return "text", ""
        case msgspec.inspect.BoolType():
            return "yes or no", "`true`, `false`"
    raise TypeError(f"a key of type {info}: teach _kind how to describe it")


def _as_declared(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """msgspec sorts a Literal's words; people want the order in which they were declared."""
    for name in dir(config):
        declared = get_args(getattr(config, name))
        if declared and set(declared) == set(values):
            return declared
    for tree_field in config_literals():
        if set(tree_field) == set(values):
            return tree_field
    return values


@cache
def config_literals() -> tuple[tuple[str, ...], ...]:
    """The words of every `Literal[...]` in the configuration, as written."""
    found = []
    for node in ast.walk(modules()["carbon_scheduler.config"]):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Literal":
            elements = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            found.append(tuple(ast.literal_eval(element) for element in elements))
    return tuple(found)


def attribute_docstrings(module: str) -> dict[tuple[str, str], str]:
    """(class, attribute) -> the string that follows the attribute."""
    found = {}
    for owner in modules()[module].body:
        if isinstance(owner, ast.ClassDef):
            for attribute, text in zip(owner.body, owner.body[1:], strict=False):
                if (
                    isinstance(attribute, ast.AnnAssign)
                    and isinstance(attribute.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                    and isinstance(text.value.value, str)
                ):
                    found[owner.name, attribute.target.id] = paragraph(text.value.value)
    return found


def environment() -> set[str]:
    """Names of variables that the code reads by a literal name or a constant, apart from the configuration's keys."""
    found = set()
    for module, tree in modules().items():
        for node in ast.walk(tree):
            match node:
                case (
                    ast.Call(func=ast.Attribute(value=where, attr="get"), args=[name, *_])
                    | ast.Subscript(value=where, slice=name)
                ) if ast.unparse(where).endswith("environ"):
                    match name:
                        case ast.Constant(value=str(text)):
                            found.add(text)
                        case ast.Name(id=constant):
                            value = getattr(importlib.import_module(module), constant, None)
                            found |= {value} if isinstance(value, str) else set()
    return found


# -- metrics


@dataclass(frozen=True)
class Metric:
    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str


def metrics() -> list[Metric]:
    """Our metrics, by name as Prometheus stores it."""
    ours = observed.Metrics()
    ours.intensity(sample_value().grid_zone, sample_value())
    labels: dict[str, tuple[str, ...]] = {}
    for made in ours.registry._collector_to_names:  # the library tells a metric's label names nowhere else
        for family in made.collect():
            declared = tuple(getattr(made, "_labelnames", ()))
            in_use = tuple(name for sample in family.samples[:1] for name in sample.labels if name != "le")
            labels[family.name] = declared or in_use
    found = []
    for family in ours.registry.collect():
        if family.name.startswith(observed.PREFIX):
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            found.append(Metric(family.name + suffix, family.type, labels[family.name], family.documentation))
    return sorted(found, key=lambda metric: metric.name)


def other_metrics() -> list[str]:
    """Those of the process and the interpreter."""
    names = {
        sample.name
        for family in observed.Metrics().registry.collect()
        if not family.name.startswith(observed.PREFIX)
        for sample in family.samples
    }
    return sorted(names)


_SAMPLE_ZONE: Final = "US-NY-NYIS"


def sample_value(quality: str = "measured", g_per_kwh: float = 300.0) -> Any:
    from carbon_scheduler.core.carbon import CarbonValue
    from carbon_scheduler.core.model import GridZone

    return CarbonValue(GridZone(_SAMPLE_ZONE), g_per_kwh, quality, "electricity-maps", 0.0, 0.0)  # type: ignore[arg-type]


def outcomes() -> list[str]:
    """Values of the label `outcome`: "ok" and every ProviderError's."""
    return ["ok", *sorted(error.label for error in subclasses(errors.ProviderError))]


def rejections() -> list[str]:
    """Values of the label `reason`, from the docstring of the error that carries it."""
    _, _, words = (errors.RejectedValue.__doc__ or "").partition("metric's `reason`: ")
    return [word.strip(" .\n") for word in words.split(",")]


# -- labels, annotations, events


def prefixed() -> set[str]:
    """Every `LABEL_PREFIX + "name"` in the code: the annotations and labels that are read or written."""
    found = set()
    for tree in modules().values():
        for node in ast.walk(tree):
            match node:
                case ast.BinOp(left=ast.Name(id="LABEL_PREFIX"), right=ast.Constant(value=str(name))):
                    found.add(name)
    return found


def event_reasons() -> dict[str, tuple[str, str]]:
    """Reason -> (type, action) of every Kubernetes event that is written."""
    found = {}
    for _, call in calls():
        match call:
            case ast.Call(
                func=ast.Attribute(attr="_key"),
                args=[_, ast.Constant(value=str(kind)), reason, ast.Constant(value=str(action)), *_],
            ):
                if isinstance(reason, ast.Constant):
                    found[str(reason.value)] = (kind, action)
            case ast.Call(func=ast.Name(id="PodWarning"), args=[_, _, _, ast.Constant(value=str(reason)), *_]):
                found[reason] = ("Warning", "Scheduling")
    return found


# -- log lines


@dataclass(frozen=True)
class Line:
    level: str
    text: str
    part: str


_LEVELS: Final = {
    "debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error",
    "problem": "error", "recovered": "info",
}  # fmt: skip
LOGS: Final = ("narrator", "_narrator", "_log")


def log_lines() -> list[Line]:
    """Every line whose words stand in a call of a logger, besides the Narrator's own. Placeholders as `{what}`."""
    found: dict[tuple[str, str], Line] = {}
    for module, call in calls():
        match call:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr=how)) if (
                name in LOGS and how in _LEVELS
            ):
                arguments = call.args[1:] if how in ("problem", "recovered") else call.args
                text = _template(arguments, module)
                if re.search(r"[a-z]{3}", re.sub(r"\{.*?\}", "", text)):
                    level = next(
                        (
                            ast.unparse(k.value).removeprefix("logging.").lower()
                            for k in call.keywords
                            if k.arg == "level"
                        ),
                        _LEVELS[how],
                    )
                    part = module.split(".")[1]
                    found.setdefault((part, text), Line(level if level in _LEVELS else "warning", text, part))
    return sorted(found.values(), key=lambda line: (line.part, line.text))


def _template(arguments: list[ast.expr], module: str) -> str:
    if not arguments:
        return ""
    first, *rest = arguments
    text = _words(first, module)
    for argument in rest:
        text = re.sub(r"%[sdrg]", "{" + _name(argument) + "}", text, count=1)
    return " ".join(text.split())


def _words(node: ast.expr, module: str) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_words(value, module) for value in values)
        case ast.FormattedValue(value=ast.Name(id=name)) if name.isupper():
            return str(getattr(importlib.import_module(module), name))
        case ast.FormattedValue(value=value):
            return "{" + _name(value) + "}"
        case ast.BinOp(left=left, right=right):
            return _words(left, module) + _words(right, module)
    return "{" + _name(node) + "}"


def _name(node: ast.expr) -> str:
    """A short word for a placeholder: the last part of a name, or that of a call's first argument."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name.strip("_")
        case ast.Call(args=[first, *_]):
            return _name(first)
        case ast.Call(func=func):
            return _name(func)
        case ast.FormattedValue(value=value):
            return _name(value)
    return "..."


# -- errors


def subclasses(base: type[Exception]) -> list[type[Any]]:
    """All below `base`, in the order of declaration, parents first."""
    found: list[type[Any]] = []
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            found += [child, *subclasses(child)]
    return found


def error_meanings() -> dict[str, str]:
    """Class -> its words in the tree that heads `errors.py`."""
    lines = re.findall(r"^[\s│├└─]*(\w+)\s{2,}(.+)$", errors.__doc__ or "", re.MULTILINE)
    return {name: text.strip() for name, text in lines}


def paragraph(text: str | None) -> str:
    """A docstring as one paragraph: its first one."""
    return " ".join((text or "").strip().split("\n\n")[0].split())


def constants(module: str, names: Iterable[str]) -> dict[str, Any]:
    loaded = importlib.import_module(module)
    return {name: getattr(loaded, name) for name in names}
