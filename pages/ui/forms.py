"""A form from a pydantic model: every field becomes a widget with its title, help, bounds and unit.

Nothing here knows a field by name, so a field added to a config shows up by itself. The value under a widget is
kept in the session under `<prefix>.<path of the field>`.
"""

import functools
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pages.ui.frame import plain

SECTION_ICONS = {
    "data": ":material/stacks:",
    "split": ":material/call_split:",
    "normalisation": ":material/contrast:",
    "patches": ":material/grid_view:",
    "sampling": ":material/colorize:",
    "augmentation": ":material/auto_fix_high:",
    "model": ":material/hub:",
    "weights": ":material/school:",
    "loss": ":material/target:",
    "optimiser": ":material/tune:",
    "schedule": ":material/trending_down:",
    "length": ":material/timer:",
    "validation": ":material/fact_check:",
    "checkpoints": ":material/save:",
    "compute": ":material/memory:",
    "sample": ":material/blur_on:",
    "tiles": ":material/grid_on:",
    "ensemble": ":material/groups:",
    "cleaning": ":material/cleaning_services:",
}
# A part of more fields than this keeps them folded away: its kind sets them well.
MANY = 14
# How a choice is called that stands for numbers typed in.
BY_HAND = "by_hand"
UNIONS = (Union, types.UnionType)
# A field whose title begins so belongs to the one before, and stands beside it.
GOES_ON = "…"


@dataclass(frozen=True)
class FormContext:
    """What a form needs beside the model.

    prefix: start of every widget's key.
    choices: for fields with a `widget` in their schema, value -> label.
    fixed: path -> value of fields that are shown but cannot be changed here.
    given: path -> value of fields that are not shown, as they are asked for elsewhere.
    """

    prefix: str
    choices: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)


def section(name: str, model: type[BaseModel], default: BaseModel, context: FormContext) -> Any:
    """Draws one part of a config as a box and returns its values as plain data.

    name: of a field of `model`, itself a part or a union of parts, or a plain field.
    default: an instance of `model` whose values the widgets start from.
    """
    info = model.model_fields[name]
    kinds = _kinds(info)
    if not kinds:
        return _widget(name, info, getattr(default, name), context)
    with st.container(border=True):
        st.markdown(f"**{' '.join(filter(None, (SECTION_ICONS.get(name), plain(name.capitalize()))))}**")
        return _part(name, kinds, getattr(default, name), context)


def field_within(path: str, model: type[BaseModel], default: BaseModel, context: FormContext) -> Any:
    """Draws one field of a part by itself and returns its value, where the rest of the part is drawn elsewhere.

    path: `part.field`; the rest is drawn by `section` with the value under this path in the context's `given`.
    """
    part, name = path.split(".")
    (kind,) = _kinds(model.model_fields[part])
    return _widget(path, kind.model_fields[name], getattr(getattr(default, part), name), context)


def sections(model: type[BaseModel], columns: Sequence[Sequence[str]]) -> list[list[str]]:
    """Fields of a config laid out in columns as asked; those not named come last, in the last column."""
    named = {name for column in columns for name in column}
    rest = [name for name, info in model.model_fields.items() if name not in named and not _is_constant(info)]
    return [*[list(column) for column in columns[:-1]], [*columns[-1], *rest]]


def _part(path: str, kinds: Sequence[type[BaseModel]], value: BaseModel, context: FormContext) -> dict[str, Any]:
    """A part of one of these kinds, which can be chosen where there are several."""
    chosen = _choose_kind(path, kinds, value, context) if len(kinds) > 1 else kinds[0]
    start = value if type(value) is chosen else chosen()
    if len(chosen.model_fields) <= MANY:
        return _fields(path, chosen, start, context)
    with st.expander("Probabilities and amounts"):
        return _fields(path, chosen, start, context)


def _fields(path: str, model: type[BaseModel], default: BaseModel, context: FormContext) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for row in _rows(model):
        columns = st.columns(len(row), vertical_alignment="bottom") if len(row) > 1 else [st.container()]
        for column, name in zip(columns, row, strict=True):
            info = model.model_fields[name]
            if _is_constant(info):
                values[name] = info.default
                continue
            # A union's members may share field names but not defaults: their widgets must not share a state.
            kind = getattr(default, "kind", "")
            key = ".".join(part for part in (path, kind, name) if part)
            if key in context.given:
                values[name] = context.given[key]
                continue
            with column:
                values[name] = _widget(key, info, getattr(default, name), context)
    return values


def _rows(model: type[BaseModel]) -> list[list[str]]:
    """Fields that stand beside each other."""
    rows: list[list[str]] = []
    for name, info in model.model_fields.items():
        if rows and (info.title or "").startswith(GOES_ON):
            rows[-1].append(name)
        else:
            rows.append([name])
    return rows


def _choose_kind(
    path: str, kinds: Sequence[type[BaseModel]], value: BaseModel, context: FormContext
) -> type[BaseModel]:
    titles = {kind.model_fields["kind"].default: (kind.__doc__ or kind.__name__).strip() for kind in kinds}
    by_kind = {kind.model_fields["kind"].default: kind for kind in kinds}
    picked = st.selectbox(
        f"{path.rpartition('.')[2].capitalize()} kind",
        list(titles),
        index=list(titles).index(value.kind),
        format_func=lambda kind: titles[kind].rstrip("."),
        key=f"{context.prefix}.{path}.kind",
        label_visibility="collapsed",
        persist_state="session",
    )
    return by_kind[picked]


def _widget(path: str, info: FieldInfo, value: Any, context: FormContext) -> Any:
    """One field's widget. Raises TypeError for a type no widget is made for yet."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    title = info.title or path
    unit = f" ({extra['unit']})" if str(extra.get("unit", title)).casefold() not in title.casefold() else ""
    options: dict[str, Any] = {
        "key": f"{context.prefix}.{path}",
        "help": info.description,
        "disabled": path in context.fixed,
        "persist_state": "session",
    }
    label = f"{title}{unit}"
    value = context.fixed.get(path, value)
    kind = info.annotation
    if "widget" in extra:
        choices = context.choices[str(extra["widget"])]
        if get_origin(kind) is tuple:
            known = [one for one in value if one in choices]
            return tuple(st.multiselect(label, list(choices), known, format_func=choices.__getitem__, **options))
        return _select(label, list(choices), value, options, names=choices)
    if get_origin(kind) is Literal:
        return _select(label, list(get_args(kind)), value, options)
    if _kinds(info):
        return _part(path, _kinds(info), value, context)
    if get_origin(kind) is tuple and get_args(kind)[-1] is not Ellipsis:
        return _tuple(label, info, value, path, options, context)
    if get_origin(kind) is tuple and _is_part(get_args(kind)[0]):
        return _list(label, info, value, path, context)
    if get_origin(kind) is tuple:
        return _numbers(label, kind, value, options)
    if get_origin(kind) in UNIONS:
        return _choice_or_numbers(label, get_args(kind), value, options)
    low, high, step = _bounds(info)
    if kind is bool:
        return st.toggle(label, value, **options)
    if kind is int:
        return st.number_input(label, low, high, int(value), 1, **options)
    if kind is float:
        number = _number(label, (low, high, step), value, str(extra.get("format", "%.3g")), options)
        _presets(extra.get("presets"), options["key"])
        return number
    if kind is str:
        return st.text_input(label, value, max_chars=_limit(info, "max_length"), **options)
    raise TypeError(f"There is no widget for {path}, which is {kind}.")


def _presets(values: Any, key: str) -> None:
    """Buttons that set a number to values with a name."""
    if not values:
        return
    with st.container(horizontal=True):
        for name, value in values.items():
            put = functools.partial(st.session_state.__setitem__, key, float(value))
            st.button(name, key=f"{key}.{name}", on_click=put, type="tertiary", help=f"Sets {value:g}.")


def _select(
    label: str, values: list[Any], value: Any, options: dict[str, Any], names: Mapping[Any, str] | None = None
) -> Any:
    def shown(choice: Any) -> str:
        return names[choice] if names else str(choice).replace("_", " ")

    index = values.index(value) if value in values else 0
    return st.selectbox(label, values, index=index, format_func=shown, **options)


def _number(
    label: str,
    bounds: tuple[float | None, float | None, float | None],
    value: float,
    form: str,
    options: dict[str, Any],
) -> float:
    low, high, margin = bounds
    # An open bound such as > 0 becomes the smallest step inside it.
    step = abs(value) / 10 or 0.01
    return st.number_input(
        label,
        None if low is None else float(low) + (margin or 0.0),
        None if high is None else float(high),
        float(value),
        step,
        format=form,
        **options,
    )


def _tuple(
    label: str,
    info: FieldInfo,
    value: Sequence[int],
    path: str,
    options: dict[str, Any],
    context: FormContext,
) -> tuple[int, ...]:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    kind, names = info.annotation, extra.get("parts", list("zyx"))
    st.markdown(label, help=options.pop("help"))
    result = []
    columns = st.columns(len(value))
    for column, start, inner, axis in zip(columns, value, get_args(kind), names, strict=True):
        low, high, _ = _bounds(FieldInfo.from_annotation(inner))
        part = f"{path}.{axis}"
        fixed = part in context.fixed
        shown = context.fixed.get(part, start)
        # A fixed value is a widget of its own, so that the free one comes back as it was.
        key = f"{context.prefix}.{part}" + (".fixed" if fixed else "")
        more = {**options, "key": key, "disabled": fixed or options["disabled"]}
        result.append(int(column.number_input(axis, low, high, int(shown), 1, **more)))
    return tuple(result)


def _choice_or_numbers(label: str, members: Sequence[Any], value: Any, options: dict[str, Any]) -> Any:
    """A choice of which one more stands for numbers, which are asked for when it is taken."""
    choices, numbers = members
    names, by_hand = list(get_args(choices)), isinstance(value, tuple)
    picked = _select(label, [*names, BY_HAND], BY_HAND if by_hand else value, options)
    if picked != BY_HAND:
        return picked
    start = value if by_hand else (1.0,)
    more = {**options, "key": f"{options['key']}.{BY_HAND}", "label_visibility": "collapsed"}
    return _numbers(f"{label} by hand", numbers, start, more)


def _numbers(label: str, kind: Any, value: Sequence[float], options: dict[str, Any]) -> tuple[float, ...] | str:
    """Numbers with commas between them; text that is none comes back as it is, which no config takes."""
    text = st.text_input(label, ", ".join(f"{one:.10g}" for one in value), placeholder="0.2, 0.5, 1", **options)
    try:
        return TypeAdapter(kind).validate_python([float(part) for part in text.split(",")])
    except ValueError as error:
        wrong = error.errors()[0]["msg"] if isinstance(error, ValidationError) else f"“{text}” is no such list"
        st.error(f"Write numbers with commas between them, such as 0.2, 0.5, 1. {plain(wrong)}.")
        return text


def _list(
    label: str, info: FieldInfo, value: Sequence[BaseModel], path: str, context: FormContext
) -> tuple[dict[str, Any], ...]:
    """Parts one below the other, each with a button that takes it away, and one that adds another."""
    item, key = get_args(info.annotation)[0], f"{context.prefix}.{path}.rows"
    # Rows keep their numbers, and so their widgets, when one above them goes; a new one takes the next number.
    rows, following = st.session_state.get(key, (list(range(len(value))), len(value)))

    def put(left: list[int], following: int) -> None:
        st.session_state[key] = left, following

    st.markdown(label, help=info.description)
    found = []
    for row in rows:
        with st.container(border=True):
            found.append(_fields(f"{path}.{row}", item, value[row] if row < len(value) else item(), context))
            others = [one for one in rows if one != row]
            st.button(
                "Remove",
                icon=":material/delete:",
                type="tertiary",
                key=f"{key}.{row}.remove",
                on_click=put,
                args=(others, following),
                disabled=len(others) < (_limit(info, "min_length") or 0),
            )
    st.button(
        "Add another",
        icon=":material/add:",
        key=f"{key}.add",
        on_click=put,
        args=([*rows, following], following + 1),
        disabled=len(rows) == _limit(info, "max_length"),
    )
    return tuple(found)


def _bounds(info: FieldInfo) -> tuple[Any, Any, float | None]:
    """Lowest and highest value, and the margin to keep from an open lower bound."""
    low = high = margin = None
    for rule in info.metadata:
        low = getattr(rule, "ge", low)
        high = getattr(rule, "le", high)
        if getattr(rule, "gt", None) is not None:
            low, margin = rule.gt, 1e-8
        if getattr(rule, "lt", None) is not None:
            high = rule.lt - 1e-6
    return low, high, margin


def _limit(info: FieldInfo, rule: str) -> int | None:
    """`min_length` or `max_length` of a field, where it has one."""
    return next((getattr(one, rule) for one in info.metadata if hasattr(one, rule)), None)


def _kinds(info: FieldInfo) -> list[type[BaseModel]]:
    """The parts a field may hold: several for a union, one for a part, none for a plain field."""
    annotation: Any = info.annotation
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    members = get_args(annotation) if get_origin(annotation) in UNIONS else (annotation,)
    return [kind for kind in members if _is_part(kind)]


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_constant(info: FieldInfo) -> bool:
    """True for a field of one possible value, such as a version or a kind."""
    return get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1
