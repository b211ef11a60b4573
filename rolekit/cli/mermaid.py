"""An app's flow as a Mermaid drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolekit.model.plan import AppPlan, HandlerPlan

_INDENT = "    "


def draw(plan: AppPlan) -> str:
    """Draw roles as boxes, handlers in them, and messages as arrows.

    A message that no handler makes comes from outside; one that no handler takes is an
    answer, and goes there.
    """
    names = {name: f"h{index}" for index, name in enumerate(plan.handlers)}
    lines = ["flowchart LR", f"{_INDENT}outside([outside])"]
    for role in dict.fromkeys(handler.role for handler in plan.handlers.values()):
        lines.append(f'{_INDENT}subgraph {role}["{role}"]')
        lines += [f"{_INDENT * 2}{names[one.name]}{_shape(one)}" for one in plan.of_role(role)]
        lines.append(f"{_INDENT}end")
    return "\n".join([*lines, *_arrows(plan, names)])


def _shape(handler: HandlerPlan) -> str:
    label = f'"{handler.method}"'
    return f"[/{label}\\]" if handler.kind == "gather" else f"[{label}]"


def _arrows(plan: AppPlan, names: dict[str, str]) -> list[str]:
    lines: list[str] = []
    made: set[type] = set()
    for handler in plan.handlers.values():
        many = handler.shape != "one"
        for cls in dict.fromkeys((*handler.returns, *handler.sends)):
            made.add(cls)
            arrow = "==>" if many and cls in handler.returns else "-->"
            takers = plan.destinations.get(cls, ())
            lines += [
                _arrow(names[handler.name], arrow, _label(plan, cls), names[one])
                for one in takers
            ]
            if not takers:
                lines.append(_arrow(names[handler.name], "-.->", _label(plan, cls), "outside"))
    for cls, takers in plan.destinations.items():
        if cls not in made:
            lines += [_arrow("outside", "-->", _label(plan, cls), names[one]) for one in takers]
    return [*lines, *_told(plan, names)]


def _told(plan: AppPlan, names: dict[str, str]) -> list[str]:
    """Draw who is told of whose dead letters."""
    return [
        _arrow(names[dying], "-. dead .->", _label(plan, cls), names[one])
        for cls, told in plan.told.items()
        for dying in plan.destinations.get(cls, ())
        for one in told
    ]


def _arrow(source: str, arrow: str, label: str, to: str) -> str:
    return f'{_INDENT}{source} {arrow}|"{label}"| {to}'


def _label(plan: AppPlan, cls: type) -> str:
    return plan.wire_names.get(cls, cls.__name__).replace('"', "#quot;")
