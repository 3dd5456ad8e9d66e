r"""One spelling for answers: LaTeX, Unicode and plain text that look alike become the same text.

In goes an answer as it was extracted, out comes its plain spelling: no math delimiters, no spacing
or font commands, one name for each command, `\frac12` written `\frac{1}{2}`, thousands joined. The
value is never touched; `exact.canonical` does what needs arithmetic. Every step takes linear time:
no pattern has two neighbouring repeats that can match the same text.
"""

# ruff: noqa: RUF001 - the table of symbols is made of look-alikes
from __future__ import annotations

import re
import unicodedata

_SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑﹣", "-"),
        **dict.fromkeys("‘’′", "'"),
        **dict.fromkeys("“”", '"'),
        **dict.fromkeys("·⋅∙", r"\cdot "),
        "×": r"\times ",
        "÷": r"\div ",
        "±": r"\pm ",
        "∓": r"\mp ",
        "≤": r"\leq ",
        "⩽": r"\leq ",
        "≥": r"\geq ",
        "⩾": r"\geq ",
        "≠": r"\neq ",
        "≈": r"\approx ",
        "≡": r"\equiv ",
        "∈": r"\in ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∖": r"\setminus ",
        "∅": r"\emptyset ",
        "∞": r"\infty ",
        "√": r"\sqrt ",
        "°": r"^\circ ",
        "π": r"\pi ",
        "θ": r"\theta ",
        "α": r"\alpha ",
        "β": r"\beta ",
        "γ": r"\gamma ",
        "λ": r"\lambda ",
        "μ": r"\mu ",
        "φ": r"\phi ",
        "ω": r"\omega ",
        "⟨": r"\langle ",
        "⟩": r"\rangle ",
        "…": r"\ldots ",
        "ℝ": r"\mathbb{R}",
        "ℤ": r"\mathbb{Z}",
        "ℕ": r"\mathbb{N}",
        "ℚ": r"\mathbb{Q}",
        "∧": " and ",
        "∨": " or ",
        "½": r"\frac{1}{2}",
        "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}",
        "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}",
        "⅕": r"\frac{1}{5}",
        "⅖": r"\frac{2}{5}",
        "⅗": r"\frac{3}{5}",
        "⅘": r"\frac{4}{5}",
        "⅙": r"\frac{1}{6}",
        "⅛": r"\frac{1}{8}",
        "⅜": r"\frac{3}{8}",
        "⅝": r"\frac{5}{8}",
        "⅞": r"\frac{7}{8}",
    }
)
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_COMMAND = re.compile(r"\\\\|\\[a-zA-Z]+\*?")
_COMMANDS = {
    **dict.fromkeys(["dfrac", "tfrac", "cfrac"], r"\frac"),
    **dict.fromkeys(["dbinom", "tbinom"], r"\binom"),
    **dict.fromkeys(["le", "leqslant", "leqq"], r"\leq"),
    **dict.fromkeys(["ge", "geqslant", "geqq"], r"\geq"),
    **dict.fromkeys(["ne"], r"\neq"),
    **dict.fromkeys(["lt"], "<"),
    **dict.fromkeys(["gt"], ">"),
    **dict.fromkeys(["lbrace"], r"\{"),
    **dict.fromkeys(["rbrace"], r"\}"),
    **dict.fromkeys(["lbrack"], "["),
    **dict.fromkeys(["rbrack"], "]"),
    **dict.fromkeys(["lvert", "rvert", "vert"], "|"),
    **dict.fromkeys(["varnothing", "O"], r"\emptyset"),
    **dict.fromkeys(["dots", "dotsc", "cdots", "dotsb"], r"\ldots"),
    **dict.fromkeys(["infin"], r"\infty"),
    **dict.fromkeys(["colon"], ":"),
    **dict.fromkeys(["backslash"], r"\setminus"),
    **dict.fromkeys(["degree", "textdegree"], r"^\circ"),
    **dict.fromkeys(["land", "wedge"], " and "),
    **dict.fromkeys(["lor", "vee"], " or "),
    **dict.fromkeys(["implies", "Rightarrow", "therefore", "iff"], " "),
    **dict.fromkeys(["rm", "bf", "it", "sf", "tt"], " "),
    **dict.fromkeys(["displaystyle", "textstyle", "limits", "nolimits", "strut"], " "),
    **dict.fromkeys(["quad", "qquad", "space", "thinspace", "enspace"], " "),
    **dict.fromkeys(["reals", "Reals", "R"], r"\mathbb{R}"),
    "ast": "*",
    "euro": "€",
    "pounds": "£",
    "mid": "|",
    "varphi": r"\phi",
}
_SIZE = re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\.?")
_DELIMITER = re.compile(r"(?<!\\)\\[()\[\]]|\$\$|`")
_SPACING = re.compile(r"\\[,;:!> ]|~|\\hspace\{[^{}]*\}|\s+")
_JOINED_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\[,:; ]|~)\s?(?=\d{3}(?!\d))")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d])")
_SPACED_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_WRAPPER = re.compile(
    r"\\(?:text(?:bf|it|rm|tt|sf|normal|md|up)?|math(?:rm|bf|it|sf|tt|normal|op|ord)|mbox|hbox|emph"
    r"|operatorname\*?|boldsymbol|bm|bold|underline|ensuremath|f?boxed|fbox)\s?\{|\\.|[{}]",
    re.DOTALL,
)
_FUNCTION = re.compile(
    r"(?<![\\a-zA-Z])(sqrt|pi|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|ln|log|exp|theta|infinity|inf)"
    r"(?![a-zA-Z])"
)
_FRACTION_DIGITS = re.compile(r"\\frac\s?(\d|[a-z](?![a-z]))\s?(\d|[a-z](?![a-z]))")
_FRACTION_HEAD = re.compile(r"\\frac\s?(\d)\s?(?=\{)")
_FRACTION_TAIL = re.compile(r"(\\frac\{[^{}]*\})\s?(\d)")
_ROOT = re.compile(r"\\sqrt\s?(\d+|[a-z](?![a-z]))")
_ROOT_OF = re.compile(r"\\sqrt\s?\(([^()]*)\)")
_POWER_OF = re.compile(r"\^\s?\(([^()]*)\)")
_POWER = re.compile(r"\^\s?(-\d+|-[a-z]|\d\d+)")
_SHORT_SCRIPT = re.compile(r"([\^_])\{([0-9a-zA-Z])\}(?![0-9])")
_LETTER_SET = re.compile(r"\\(?:mathbb|Bbb)\s?\{?([A-Z])(?![a-zA-Z])\}?")
_PERCENT = re.compile(r"\s?(?:\\%|%|\b(?:percentage|percent|per cent|pct)\b)")
_CIRCLE = re.compile(r"\^\s?\{\s?\\circ\s?\}|\^\s?\\circ")
_LOOSE_SPACE = re.compile(r"(?<![A-Za-z0-9}%'.]) | (?![A-Za-z0-9])")
_COMMAND_SPACE = re.compile(r"(\\[a-zA-Z]+) (?![a-zA-Z])")
_RELATION = {"<=": r"\leq ", ">=": r"\geq ", "!=": r"\neq ", "==": "=", ":=": "=", "**": "^"}
_RELATIONS = re.compile(r"<=|>=|!=|==|:=|\*\*")
_LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore),? )?(?:the )?(?:final |correct )?answer(?: is:?|:) ?"
    r"|=|\\approx|(?:approximately|about) ",
    re.IGNORECASE,
)
_NESTED_ROOTS = 3
_MILLIONS = re.compile(r"(?<=\d) ?(thousand|million|billion|trillion)(?![a-z])")
_EXPONENTS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_EMPTY_GROUP = re.compile(r"(?<![a-zA-Z}\\])\{\}")
_EDGE = " \t\n,;。*"


def spell(answer: str) -> str:
    """The answer in the one spelling that everything else here reads."""
    text = answer.strip().replace("\0", "").replace("...", r"\ldots ")
    if not text.isascii():
        text = _ascii(text)
    if "\\\\" in text and "\\begin" not in text:
        text = re.sub(r"\\{2,}(?=[a-zA-Z])", r"\\", text)
    text = _without_delimiters(text)
    text = _JOINED_THOUSANDS.sub("", text)
    text = _SIZE.sub("", text)
    text = _COMMAND.sub(_command, text)
    text = _SPACING.sub(" ", text)
    text = _unwrapped(text)
    text = _without_edges(text)
    if not any(bracket in text for bracket in "([{"):
        text = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    return _tight(_completed(_tight(text)))


def _ascii(text: str) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
    text = _RAISED.sub(lambda match: f"^{{{_plain(match.group())}}}", text)
    text = _LOWERED.sub(lambda match: f"_{{{_plain(match.group())}}}", text)
    return unicodedata.normalize("NFKC", text.translate(_SYMBOLS)).translate(_SYMBOLS)


def _plain(raised: str) -> str:
    return unicodedata.normalize("NFKC", raised).replace("\u2212", "-")


def _without_delimiters(text: str) -> str:
    """Drops what switches to mathematics; a dollar that is money stays as `$`."""
    text = _DELIMITER.sub("", text).replace("\\$", "\0")
    if text.count("$") % 2:
        text = re.sub(r"\$(?=\s?[\d.])", "\0", text, count=1)
    return text.replace("$", "").replace("\0", "$")


def _command(match: re.Match[str]) -> str:
    name = match.group()
    return _COMMANDS.get(name[1:], name)


def _unwrapped(text: str) -> str:
    """Drops font commands with their braces, in one pass, and sets blanks around words."""
    if "\\" not in text:
        return text
    pieces: list[str] = []
    wraps: list[bool] = []
    end = 0
    for match in _WRAPPER.finditer(text):
        pieces.append(text[end : match.start()])
        end, token = match.end(), match.group()
        if token == "{":
            wraps.append(False)
        elif token == "}":
            token = " " if wraps and wraps.pop() else token
        elif token.endswith("{") and len(token) > 2:
            wraps.append(True)
            token = " "
        pieces.append(token)
    pieces.append(text[end:])
    return " ".join("".join(pieces).split())


def _without_edges(text: str) -> str:
    text = _stripped(text)
    lead = _LEAD.match(text)
    text = _stripped(text[lead.end() :]) if lead else text
    if text[:1] in ("'", '"') and text[-1:] == text[:1]:
        text = _stripped(text[1:-1])
    return text


def _stripped(text: str) -> str:
    return text.lstrip(_EDGE).rstrip(_EDGE + ".\\")


def _completed(text: str) -> str:
    """Writes the braces that LaTeX lets one leave out, and one name for each operator."""
    text = _RELATIONS.sub(lambda match: _RELATION[match.group()], text)
    text = _MILLIONS.sub(lambda match: f"\\cdot10^{{{_EXPONENTS[match[1]]}}}", text)
    text = _EMPTY_GROUP.sub("", text)
    text = _PERCENT.sub("%", text)
    text = _LETTER_SET.sub(r"\\mathbb{\1}", text)
    text = _CIRCLE.sub(r"^\\circ", text)
    text = _FUNCTION.sub(
        lambda match: "\\infty" if match[1].startswith("inf") else "\\" + match[1], text
    )
    text = _FRACTION_DIGITS.sub(r"\\frac{\1}{\2}", text)
    text = _FRACTION_HEAD.sub(r"\\frac{\1}", text)
    text = _FRACTION_TAIL.sub(r"\1{\2}", text)
    text = _ROOT.sub(r"\\sqrt{\1}", text)
    for _ in range(_NESTED_ROOTS):
        text = _ROOT_OF.sub(r"\\sqrt{\1}", text)
    text = _POWER.sub(r"^{\1}", _POWER_OF.sub(r"^{\1}", text))
    return _SHORT_SCRIPT.sub(r"\1\2", text)


def _tight(text: str) -> str:
    """Keeps a blank only where it parts two words or numbers."""
    text = " ".join(text.split())
    if _SPACED_THOUSANDS.fullmatch(text):
        return text.replace(" ", "")
    return _COMMAND_SPACE.sub(r"\1", _LOOSE_SPACE.sub("", text))
