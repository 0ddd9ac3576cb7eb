"""Takes secrets out of what leaves this machine: each becomes `[redacted: aws key 1]`, the same one the same number.

Three layers: values known to be secret, the shapes of `secret_shapes.py`, and the named detectors of `detect-secrets`
where that is installed. Paths lose what is private or does not travel: the project's directory and the home.
Refuses: to touch what is recorded. It works on copies on their way out, as taking away too much there would be a loss.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from p8.formats.secret_shapes import (
    BARE,
    NAME,
    NAMED,
    PLAIN,
    RULES,
    VARIABLE,
    Rule,
    begins,
    looks_like_one,
    stands_for_one,
)

REMEMBERED = 10  #: a secret found at one place is taken out everywhere, if it has so many characters
#: the detectors that name what they find, each with the words without which it need not be asked. Those that go by
#: entropy, keywords or addresses redact code; so do Artifactory's, which takes capital words that begin with AP, and
#: the one for private keys, which takes their first lines and leaves the keys
DETECTORS = {
    "aws.AWSKeyDetector": ("aws key", "a3t abia acca akia asia aws"),
    "azure_storage_key.AzureStorageKeyDetector": ("azure key", "accountkey"),
    "cloudant.CloudantDetector": ("cloudant password", "cloudant"),
    "discord.DiscordBotTokenDetector": ("discord token", "discord"),
    "github_token.GitHubTokenDetector": ("github token", "ghp_ gho_ ghu_ ghs_ ghr_"),
    "gitlab_token.GitLabTokenDetector": ("gitlab token", "gl gr1348941"),
    "ibm_cloud_iam.IbmCloudIamDetector": ("ibm key", "ibm iam cloud"),
    "ibm_cos_hmac.IbmCosHmacDetector": ("ibm key", "secret"),
    "jwt.JwtTokenDetector": ("web token", "eyj"),
    "mailchimp.MailchimpDetector": ("mailchimp key", "-us"),
    "npm.NpmDetector": ("npm token", ":_authtoken"),
    "openai.OpenAIDetector": ("openai key", "t3blbkfj"),
    "pypi_token.PypiTokenDetector": ("pypi token", "pypi-"),
    "sendgrid.SendGridDetector": ("sendgrid key", "sg."),
    "slack.SlackDetector": ("slack token", "xox hooks.slack.com"),
    "softlayer.SoftlayerDetector": ("softlayer key", "softlayer"),
    "square_oauth.SquareOAuthDetector": ("square token", "sq0csp"),
    "stripe.StripeDetector": ("stripe key", "_live_"),
    "telegram_token.TelegramBotTokenDetector": ("telegram token", ":aa"),
    "twilio.TwilioKeyDetector": ("twilio key", "twilio"),
}
BEFORE, AFTER = 1000, 8192  #: characters of a long line around a hint that are looked at
CUT = 5  #: characters of a secret that give it away at the end of a title
#: what a terminal acts on and a person does not see: a colour in the middle of a key hides it from every pattern
UNSEEN = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,2000}(?:\x07|\x1b\\)|\x1b[@-Z\\-_]|[\u200b-\u200d\u2060\ufeff\u00ad]"
)
_UNDERLINE = re.compile(r"\\(_)")  #: Markdown's escapes, which its reader never sees


class Found(NamedTuple):
    """What was taken out, of one kind."""

    kind: str
    secrets: int  #: different ones
    places: int  #: how often they stood there


class Redactor:
    """
    Redacts one export.

    Args:
        known: secrets by value, each with its name: from the environment, from settings.
        places: absolute directories, each with what is written instead: "" for what paths become relative to.
        detectors: ask `detect-secrets` too, where it is installed.
    """

    def __init__(
        self, known: Mapping[str, str] | None = None, places: Mapping[str, str] | None = None, detectors: bool = True
    ) -> None:
        self._labels: dict[str, str] = {}
        self._distinct: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._everywhere: list[str] = []
        self._places = _place_patterns(places or {})
        self._detectors = _detectors() if detectors else ()
        self._learning = False
        self._clean: set[int] = set()  #: what was learnt from and has no secret of its own need not be tried again
        for value, name in sorted((known or {}).items(), key=lambda item: item[1]):
            if len(value) >= 8 and not stands_for_one(value) and not value.startswith("/"):
                self._label(value, name)

    @property
    def found(self) -> list[Found]:
        """Return what has been taken out so far, by kind."""
        return [Found(kind, self._distinct[kind], n) for kind, n in sorted(self._counts.items())]

    def learn(self, value: Any) -> None:
        """Look for secrets without taking any out, so that they are also taken out of what stands before them."""
        self._learning = True
        try:
            self.data(value)
        finally:
            self._learning = False

    def data(self, value: Any, name: str = "") -> Any:
        """Return a redacted copy of plain data: texts, keys, bytes, and what a field's name says is a secret."""
        if isinstance(value, str):
            if name and len(value) <= 4096 and not value.isspace() and _holds_secret(name, value):
                return self._replaced(value, "secret")
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(k): self.data(v, k) if isinstance(k, str) else self.data(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.data(item, name) for item in value]
        if isinstance(value, bytes):
            return self.text(value.decode("latin-1")).encode("latin-1", "replace")
        return value

    def text(self, text: str) -> str:
        """Return `text` without secrets, paths shortened."""
        if len(text) >= 6:
            text = self._scan(text)
            for see in (_seen, _unescaped):
                plain = see(text)
                if plain is not None:
                    clean = self._scan(plain)
                    text = clean if clean != plain else text
        for pattern, instead in self._places:
            text = pattern.sub(instead, text)
        return self._uncut(text) if text.endswith("…") else text

    def _uncut(self, text: str) -> str:
        """Return a title that was cut off without the beginning of a secret at its end."""
        for secret in self._everywhere:
            at = text.rfind(secret[:CUT])
            if at >= 0 and secret.startswith(text[at:-1].rstrip()):
                return f"{text[:at]}{self._counted(secret, 1)}…"
        return text

    def _scan(self, text: str) -> str:
        for secret in self._everywhere:
            if secret in text:
                text = text.replace(secret, self._counted(secret, text.count(secret)))
        key = hash(text)
        if key in self._clean:
            return text
        begun, low = text, _low(text)
        spans: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        for rule in RULES:
            if not any(hint in low for hint in rule.hints):
                continue
            if not rule.lines:
                some = [(0, len(text))]
            else:
                if rule.hints not in spans:
                    spans[rule.hints] = _lines_with(low, rule.hints)
                some = spans[rule.hints]
            clean = self._take(text, rule, some)
            if clean is not text:
                text, low = clean, _low(clean)
                spans.clear()
        text = self._ask_detectors(text, low) if self._detectors else text
        if text is begun and self._learning:
            self._clean.add(key)
        return text

    def _take(self, text: str, rule: Rule, spans: list[tuple[int, int]]) -> str:
        """Return `text` without what a rule finds between these places; the same object where it finds nothing."""
        parts, done = [], 0
        for start, end in spans:
            for match in rule.pattern.finditer(text, start, end):
                group = match.lastindex or 0
                secret, at = match.group(group), match.start(group)
                if at < done or not _is_one(rule, secret, text, at):
                    continue
                parts += [text[done:at], self._replaced(secret, rule.kind)]
                done = match.end(group)
        return "".join([*parts, text[done:]]) if parts else text

    def _ask_detectors(self, text: str, low: str) -> str:
        found: dict[str, str] = {}
        for hints, kind, detect in self._detectors:
            if any(hint in low for hint in hints):
                for start, end in _lines_with(low, hints):
                    found |= dict.fromkeys((s.strip(" \t\"'=:") for s in detect(text[start:end])), kind)
        for secret, kind in found.items():
            if len(secret) >= 8 and "[redacted" not in secret and not stands_for_one(secret):
                text = text.replace(secret, self._replaced(secret, kind, text.count(secret)))
        return text

    def _replaced(self, secret: str, kind: str, places: int = 1) -> str:
        if secret not in self._labels:
            self._label(secret, kind)
        return self._counted(secret, places)

    def _label(self, secret: str, kind: str) -> None:
        number = self._distinct[kind] = self._distinct.get(kind, 0) + 1
        self._labels[secret] = f"{kind} {number}"
        if len(secret) >= REMEMBERED:
            self._everywhere.append(secret)
            self._everywhere.sort(key=len, reverse=True)

    def _counted(self, secret: str, places: int) -> str:
        label = self._labels[secret]
        kind = label.rpartition(" ")[0]
        if not self._learning:
            self._counts[kind] = self._counts.get(kind, 0) + places
        return f"[redacted: {label}]"


def _low(text: str) -> str:
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower() if c.isascii() else c for c in text)


def _lines_with(low: str, hints: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return where the lines that hold a hint begin and end; of a long one, what is around the hint."""
    found = []
    for hint in hints:
        at = low.find(hint)
        while at >= 0:
            start = max(low.rfind("\n", 0, at) + 1, at - BEFORE)
            end = low.find("\n", at, at + AFTER)
            end = min(at + AFTER, len(low)) if end < 0 else end
            found.append((start, end))
            at = low.find(hint, end if end > at else at + 1)
    found.sort()
    merged: list[tuple[int, int]] = []
    for start, end in found:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _is_one(rule: Rule, secret: str, text: str, at: int) -> bool:
    if "[redacted: " in secret or (not rule.lines and rule.check == PLAIN and not begins(text, at)):
        return False
    if rule.check in {NAMED, BARE}:
        return looks_like_one(secret, rule.check == BARE)
    return rule.check == PLAIN or not stands_for_one(secret)


def _seen(text: str) -> str | None:
    """Return what a person sees of `text` on a terminal, where that differs."""
    return UNSEEN.sub("", text) if UNSEEN.search(text) else None


def _unescaped(text: str) -> str | None:
    return _UNDERLINE.sub(r"\1", text) if "\\" in text and _UNDERLINE.search(text) else None


def _holds_secret(name: str, value: str) -> bool:
    if VARIABLE.fullmatch(name):
        return len(value) >= 6 and not stands_for_one(value) and " " not in value and not value.startswith("/")
    return NAME.fullmatch(name) is not None and " " not in value and looks_like_one(value)


def _place_patterns(places: Mapping[str, str]) -> list[tuple[re.Pattern[str], str]]:
    """Return, longest directory first, what finds it as a whole path and what to write instead."""
    found = []
    for place, instead in sorted(places.items(), key=lambda item: -len(item[0])):
        root = place.rstrip("/")
        if root.count("/") < 1 or root in {"", "/home", "/Users", "/usr", "/tmp", "/var", "/opt"}:  # noqa: S108
            continue
        edge = r"(?:(?<![\w.~/-])|(?<=//)|(?<=\\[nrt]))" + re.escape(root)
        if instead:
            found.append((re.compile(edge + r"(?![\w.-]*\w)"), instead.replace("\\", r"\\")))
        else:
            found.append((re.compile(edge + r"/(?=[\w.~@-])"), ""))
            found.append((re.compile(edge + r"(?![\w.-]*\w)"), "."))
    return found


@lru_cache(1)
def _detectors() -> tuple[tuple[tuple[str, ...], str, Callable[[str], Iterable[str]]], ...]:
    """Return the detectors of `detect-secrets` that may be trusted with code; none where it is not installed."""
    from importlib import import_module

    found = []
    for path, (kind, hints) in DETECTORS.items():
        module, name = path.split(".")
        try:
            detector = getattr(import_module(f"detect_secrets.plugins.{module}"), name)()
        except ImportError:
            return ()
        except AttributeError:
            continue
        found.append((tuple(hints.split()), kind, detector.analyze_string))
    return tuple(found)


def has_detectors() -> bool:
    """Return whether `detect-secrets` is installed."""
    return bool(_detectors())
