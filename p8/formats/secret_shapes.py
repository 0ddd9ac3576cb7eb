r"""What secrets look like: one rule a shape, reviewed by hand, each with the words that must occur for it to be tried.

Three sorts: shapes that nothing else has (a prefix, a length, an alphabet); places where only secrets stand (a URL's
password, an Authorization header); and names that announce one (`API_KEY=…`), where the value must look like one too.
Refuses: to guess by entropy. Hashes, identifiers and code look random as well, and a redacted hash is a lost fact.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple


class Rule(NamedTuple):
    """One shape."""

    kind: str  #: what the reader is told stood there
    hints: tuple[str, ...]  #: lower case; the rule is tried where one of them occurs
    pattern: re.Pattern[str]  #: the last group is the secret, the whole match where there is none
    check: int = 0  #: PLAIN, PLACE, NAMED or BARE
    lines: bool = False  #: try it on lines with a hint only; else it is quick, as it begins with letters of its own


#: the shape is enough; anything but a word that stands for a secret; it must look like one, also where code could stand
PLAIN, PLACE, NAMED, BARE = 0, 1, 2, 3
#: before a shape stands no letter or digit, unless it ends an escape: `\n`, `%3D`, a colour
ESCAPE = re.compile(r"(?:\\[nrt]|%[0-9A-Fa-f]{2}|[\[;]\d{1,2}m)$")


def _shape(kind: str, hints: str, pattern: str, check: int = PLAIN) -> Rule:
    return Rule(kind, tuple(hints.split()), re.compile(pattern + r"(?![A-Za-z0-9])", re.ASCII), check)


def _place(kind: str, hints: str, pattern: str, check: int = PLACE, flags: re.RegexFlag = re.IGNORECASE) -> Rule:
    return Rule(kind, tuple(hints.split()), re.compile(pattern, flags | re.ASCII), check, True)


def begins(text: str, at: int) -> bool:
    """Return whether a shape may begin at a place of `text`."""
    before = text[at - 1 : at]
    return not (before.isascii() and before.isalnum()) or ESCAPE.search(text[max(at - 4, 0) : at]) is not None


_SEP = r"(?:\\+[nr]|[\s\"',>|#])"
_KEY_BLOCK = (
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rf"(?:{_SEP}*+(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset):[^\n\\]{{0,200}})*+"
    rf"(?:{_SEP}*+[A-Za-z0-9+/=_]{{16,}}+)++"
    rf"(?:(?:{_SEP}*+[A-Za-z0-9+/=]{{1,76}}+){{0,2}}{_SEP}*+-----END [A-Z0-9 ]{{0,30}}PRIVATE KEY(?: BLOCK)?-----"
    rf"|{_SEP}*+[A-Za-z0-9+/=]{{1,15}}\Z)?"
)

KEYS = (
    Rule("private key", ("private key",), re.compile(_KEY_BLOCK)),
    Rule("private key", ("putty-user-key",), re.compile(r"PuTTY-User-Key-File-\d:[\s\S]{0,8000}?Private-MAC: ?\w+")),
    _shape("private key", "age-secret-key-1", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    _shape("web token", "eyj", r"eyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]{4,}(?:\.[\w-]+){0,2}"),
    _shape("web token", "eyj", r"eyJ[\w-]{8,}\.[\w-]{0,600}\.[\w-]{12,}\.[\w-]{12,}\.[\w-]{16,}"),
)

CLOUDS = (
    _place("aws secret", "akia asia",
           r"(?:AKIA|ASIA)[A-Z0-9]{16}[\"',;:|\s]{1,5}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"),
    _shape("aws key", "akia asia abia acca", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"),
    _place("aws secret", "aws secretaccesskey",
           r"(?:aws.{0,20}?secret|secret_?access).{0,12}?key[\"'\\]{0,3}\s{0,4}[=:,>]{1,2}\s{0,4}[\"'\\]{0,3}"
           r"([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"),
    _shape("aws token", "fwogzxivyxdz iqojb3jpz2lu", r"(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[A-Za-z0-9/+=%]{60,}"),
    _shape("aws key", "absk", r"ABSK[A-Za-z0-9+/]{100,}={0,2}"),
    _shape("google key", "aiza", r"AIza[\w-]{35}"),
    _shape("google key", "aq.", r"AQ\.[A-Z][\w-]{40,}"),
    _shape("google secret", "gocspx-", r"GOCSPX-[\w-]{20,}"),
    _shape("google token", "ya29.", r"ya29\.[\w-]{20,}"),
    _shape("google token", "1//0", r"1//0[\w-]{40,}"),
    _place("azure key", "accountkey sharedaccesskey", r"(?:Account|SharedAccess)Key\s?=\s?([A-Za-z0-9+/]{40,}={0,2})"),
    _shape("azure secret", "q~", r"[\w~.-]{3}[78]Q~[\w~.-]{31,34}"),
    _shape("azure token", "azdo", r"[A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4}"),
    _shape("digitalocean token", "_v1_", r"do[opr]_v1_[0-9a-f]{64}"),
    _shape("heroku key", "hrku-", r"HRKU-[\w-]{36,}"),
    _shape("fly token", "fm1_ fm2_ fo1_", r"(?:fm[12]_[\w+/=-]{60,}|fo1_[\w-]{40,})"),
    _shape("netlify token", "nfp_", r"nfp_[A-Za-z0-9]{36,}"),
    _shape("render key", "rnd_", r"rnd_[A-Za-z0-9]{28,}"),
    _shape("cloudflare key", "v1.0- cfut_ cfat_ cfk_", r"(?:v1\.0-[0-9a-f]{24}-[0-9a-f]{100,}|cf(?:k|ut|at)_\w{40,})"),
    _shape("databricks token", "dapi", r"dapi[0-9a-f]{32}(?:-\d)?"),
    _shape("planetscale token", "pscale_", r"pscale_(?:tkn|pw|oauth)_[\w.-]{32,}"),
    _shape("supabase key", "sbp_ sb_secret_", r"(?:sbp_[0-9a-f]{40}|sb_secret_[\w-]{20,})"),
    _shape("neon key", "napi_", r"napi_[a-z0-9]{60,}"),
    _shape("vault token", "hvs. hvb. hvr.", r"hv[sbr]\.[\w-]{24,}"),
    _shape("terraform token", "atlasv1", r"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{60,}"),
    _shape("doppler token", "dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{40,}"),
    _shape("1password token", "ops_eyj", r"ops_eyJ[\w+/=-]{60,}"),
    _shape("pulumi token", "pul-", r"pul-[0-9a-f]{40}"),
    _shape("tailscale key", "tskey-", r"tskey-[a-z]+-[\w-]{10,}"),
    _shape("alibaba key", "ltai", r"LTAI[A-Za-z0-9]{20,}"),
)  # fmt: skip

MODELS = (
    _shape("anthropic key", "sk-ant-", r"sk-ant-[\w-]{20,}"),
    _shape("openrouter key", "sk-or-", r"sk-or-(?:v1-)?[A-Za-z0-9]{32,}"),
    _shape("openai key", "sk-", r"sk-(?:proj|svcacct|admin|None|lf)-[\w-]{20,}"),
    _shape("openai key", "sk-", r"sk-[A-Za-z0-9]{32,}"),
    _shape("huggingface token", "hf_ api_org_", r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    _shape("replicate token", "r8_", r"r8_[A-Za-z0-9]{30,}"),
    _shape("groq key", "gsk_", r"gsk_[A-Za-z0-9]{40,}"),
    _shape("xai key", "xai-", r"xai-[A-Za-z0-9]{60,}"),
    _shape("perplexity key", "pplx-", r"pplx-[A-Za-z0-9]{40,}"),
    _shape("tavily key", "tvly-", r"tvly-[A-Za-z0-9-]{20,}"),
    _shape("nvidia key", "nvapi-", r"nvapi-[\w-]{40,}"),
    _shape("cerebras key", "csk-", r"csk-[a-z0-9]{40,}"),
    _shape("together key", "tgp_v1_", r"tgp_v1_[\w-]{30,}"),
    _shape("pinecone key", "pcsk_", r"pcsk_[A-Za-z0-9_]{40,}"),
    _shape("langsmith key", "lsv2_", r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    _shape("wandb key", "wandb_v1_", r"wandb_v1_\w{40,}"),
    _shape("elevenlabs key", "sk_", r"sk_[0-9a-f]{48}"),
    _shape("jina key", "jina_", r"jina_[A-Za-z0-9_-]{40,}"),
)

CODE = (
    _shape("github token", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{36,255}"),
    _shape("github token", "github_pat_", r"github_pat_\w{40,255}"),
    _shape("gitlab token", "glpat- gldt- glrt- glcbt- glptt- glft- glsoat- glagent- glimt- glwt-",
           r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt|oas|ffct|wt)-[\w=.-]{20,}"),
    _shape("gitlab token", "gr1348941", r"GR1348941[\w-]{20,}"),
    _shape("npm token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _place("npm token", "_auth _password", r"(?:^|:)_(?:authToken|auth|password)\s*=\s*[\"']?([^\s\"'$]{8,})", PLACE,
           re.IGNORECASE | re.MULTILINE),
    _shape("django key", "django-insecure-", r"django-insecure-[^\s\"'\\]{30,80}"),
    _shape("pypi token", "pypi-", r"pypi-[\w-]{50,}"),
    _shape("rubygems key", "rubygems_", r"rubygems_[0-9a-f]{48}"),
    _shape("crates token", "cio", r"cio[A-Za-z0-9]{32}"),
    _shape("docker token", "dckr_", r"dckr_(?:pat|oat)_[\w-]{20,}"),
    _place("docker login", "\"auth", r"\\?\"auth\\?\"\s*:\s*\\?\"([A-Za-z0-9+/]{12,}={0,2})\\?\""),
    _shape("nuget key", "oy2", r"oy2[a-z0-9]{43}"),
    _shape("artifactory key", "akc cmvmdgtu", r"(?:AKC[a-zA-Z0-9]{60,}|cmVmdGtu[A-Za-z0-9]{50,})"),
    _shape("circleci token", "ccipat_ cciprj_", r"CCIP(?:AT|RJ)_[A-Za-z0-9]+_[0-9a-f]{40}"),
    _shape("buildkite token", "bkua_", r"bkua_[0-9a-f]{40}"),
    _shape("sonar token", "squ_ sqp_ sqa_", r"sq[upa]_[0-9a-f]{40}"),
    _shape("postman key", "pmak-", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    _shape("sentry token", "sntrys_ sntryu_", r"sntry[su]_[\w+/=-]{40,}"),
    _shape("grafana token", "glsa_ glc_", r"(?:glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}|glc_[\w+/=-]{32,})"),
    _shape("newrelic key", "nrak- nrii-", r"NR(?:AK-[A-Z0-9]{27}|II-[\w-]{32})"),
    _shape("dynatrace token", "dt0", r"dt0[a-z]\d{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    _shape("launchdarkly key", "sdk- api-", r"(?:sdk|api)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    _shape("mapbox token", "sk.eyj", r"sk\.eyJ[\w-]{20,}\.[\w-]{16,}"),
)  # fmt: skip

PEOPLE = (
    _shape("slack token", "xox", r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}"),
    _shape("slack token", "xapp-", r"xapp-\d-[A-Za-z0-9-]{10,}"),
    _place("slack webhook", "hooks.slack.com",
           r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/+]{20,})"),
    _place("discord webhook", "/api/webhooks/", r"discord(?:app)?\.com/api/(?:v\d+/)?webhooks/\d+/([\w-]{30,})"),
    _shape("discord token", ".", r"(?:[MNO][DTjz][AEIMQUYcgk][w-z0-5]){5,6}[\w-]{0,6}\.[\w-]{6}\.[\w-]{27,45}"),
    _shape("telegram token", ":aa", r"(?:bot)?\d{8,10}:AA[\w-]{32,34}"),
    _place("teams webhook", "webhook.office.com", r"webhook\.office\.com/webhookb2/([\w@/-]{40,})"),
    _shape("stripe key", "sk_live_ sk_test_ rk_live_ rk_test_", r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"),
    _shape("webhook secret", "whsec_", r"whsec_[A-Za-z0-9+/=]{24,}"),
    _shape("square token", "sq0 eaaa", r"(?:sq0[a-z]{3}-[\w-]{22,43}|EAAA[\w-]{60})"),
    _shape("shopify token", "shp", r"shp(?:at|ss|ca|pa)_[0-9a-fA-F]{32}"),
    _shape("paypal token", "access_token$", r"access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}"),
    _shape("plaid token", "access-", r"access-(?:sandbox|development|production)-[0-9a-f-]{36}"),
    _shape("sendgrid key", "sg.", r"SG\.[\w-]{16,}\.[\w-]{32,}"),
    _shape("mailgun key", "key-", r"key-[0-9a-f]{32}"),
    _shape("mailchimp key", "-us", r"[0-9a-f]{32}-us\d{1,2}"),
    _shape("brevo key", "xkeysib-", r"xkeysib-[0-9a-f]{64}-\w{16}"),
    _shape("resend key", "re_", r"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24}"),
    _shape("twilio key", "sk", r"SK[0-9a-f]{32}"),
    _shape("atlassian token", "atatt3 atctt3 atbb", r"(?:AT[AC]TT3[\w=-]{60,}|ATBB[\w=.-]{24,})"),
    _shape("linear key", "lin_", r"lin_(?:api|oauth)_[A-Za-z0-9]{32,}"),
    _shape("notion token", "ntn_ secret_", r"(?:ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43})"),
    _shape("figma token", "figd_ figu_", r"fig[du]_[\w-]{40,}"),
    _shape("airtable token", "pat", r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    _shape("dropbox token", "sl.", r"sl\.[\w-]{100,}"),
    _shape("contentful token", "cfpat-", r"CFPAT-[\w-]{40,}"),
)  # fmt: skip

#: where only a secret stands, whatever it looks like
PLACES = (
    _place("password", "://", r"[a-z][a-z0-9+.-]{1,20}://[^\s/?#@:\"'<>{}]{0,100}:([^\s/?#\"'<>{}]{3,200})@(?=[\w\[.-])"),
    _place("url token", "://", r"[a-z][a-z0-9+.-]{1,20}://([\w-]{20,200})@(?=[\w\[.-])", NAMED),
    _place("bearer token", "bearer", r"\bbearer[\s:=\"'\\]{1,4}([\w.~+/-]{16,}={0,2})", NAMED),
    _place("credentials", "authorization",
           r"authorization[\"'\\]{0,3}\s*[:=,]\s*[\"'\\]{0,3}(?:basic|token|digest|apikey|api-key|key|negotiate)\s+"
           r"[\"'\\]{0,3}(?!\[redacted)([^\s\"'\\,;]{8,})"),
    _place("credentials", "authorization",
           r"authorization[\"'\\]{0,3}\s*[:=,]\s*[\"'\\]{0,3}([\w.~+/-]{16,}={0,2})", NAMED),
    _place("cookie", "cookie",
           r"(?<![\w-])(?:set-)?cookie[\"'\\]{0,3}\s*[:=,]\s*[\"'\\]{0,3}"
           r"([\w.$-]{1,60}=[^\s;\"'\\]{1,4000}(?:;\s{0,2}[\w.$-]{1,60}=[^\s;\"'\\]{0,4000}){0,60})", NAMED),
    _place("signature", "sig", r"[?&;](?:x-amz-signature|x-goog-signature|sig|signature)=([A-Za-z0-9%+/=_-]{24,})"),
    _place("url token", "token= key= code= password= secret= auth=",
           r"[?&](?:\w{0,30}token|\w{0,20}api_?key|key|auth|\w{0,20}secret|password|passwd|pwd)=([^\s&\"'<>#\\]{8,})",
           NAMED),
    _place("password", "curl wget --user",
           r"\b(?:curl|wget|httpie?|xh)\b[^\n|;]{0,400}?\s(?:-u|--user|-a|--auth)[=\s]\s?[\"']?"
           r"[^\s:\"'$]{1,80}:([^\s\"'$]{4,})"),
    _place("password", "sshpass", r"\bsshpass\s+-p\s*[\"']?([^\s\"'$]{4,})"),
    _place("password", "mysql mariadb", r"\b(?:mysql|mariadb)\w*\b[^\n|;]{0,300}?\s-p([^\s\"'$=-][^\s\"']{3,})"),
    _place("password", "redis-cli", r"\bredis-cli\b[^\n|;]{0,200}?\s-a\s+[\"']?([^\s\"'$-][^\s\"']{3,})"),
    Rule("password", ("login",), re.compile(r"machine\s+\S{1,200}\s+login\s+\S{1,200}\s+password\s+(\S{3,})"), PLACE),
    _place("password", "5432 6432 :*:", r"^[^\s:/]{1,200}:(?:543\d|6432|\*):[^\s:]{1,80}:[a-z_][^\s:]{0,80}:(\S{3,})$",
           PLACE, re.IGNORECASE | re.MULTILINE),
    _place("password", "password= pwd=", r";\s*(?:password|pwd)\s*=\s*[\"']?([^;\"'\s{}]{3,})(?=[;\"'\s]|$)"),
    _place("password hash", "$",
           r"(?<![\w$])(\$(?:apr1|2[abxy]|5|6|y|argon2i?d?|scrypt|7)\$[A-Za-z0-9./$=,+]{20,})", PLAIN),
)  # fmt: skip

_NAME = (
    r"(?:pass(?:word|wd|phrase|code)|(?<![a-z])pass|(?<![a-z])pwd|secret|token|api[_.-]?key|apikey|access[_-]?key"
    r"|private[_-]?key|secret[_-]?key|auth[_-]?key|signing[_-]?key|encryption[_-]?key|master[_-]?key|account[_-]?key"
    r"|client[_-]?secret|credentials?)"
    r"(?:[_-]?(?:\d{1,3}|prod|production|dev|test|staging|live|base64|b64|value|key|base|primary|secondary))?"
)
#: the name of a field that holds a secret
NAME = re.compile(rf"[\w.-]{{0,60}}?{_NAME}", re.IGNORECASE)
#: the name of an environment variable that holds one
VARIABLE = re.compile(r"(?:[A-Z0-9]+_)*(?:PASS(?:WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|APIKEY|KEY|CREDENTIALS?)(?:_\d+)?")
_HINTS = "pass pwd secret token key credential"

#: names that announce a secret; what they announce must look like one
NAMES = (
    _place("secret", _HINTS,
           rf"{_NAME}\\?[\"']?\]?\s{{0,8}}(?::|=|=>|:=|,)\s{{0,8}}[bru]{{0,2}}(?P<q>\\?[\"'])"
           rf"([^\s\"'\\]{{8,400}})(?P=q)", NAMED),
    _place("secret", _HINTS, r"(?<![A-Za-z0-9_])(?:[A-Z0-9]+_)*(?:PASS(?:WORD|WD|PHRASE)?|SECRET|TOKEN|APIKEY|KEY"
           r"|CREDENTIALS?)(?:_\d+)?=[\"']?([^\s\"'$()<>{}\\,;&|]{6,400})", NAMED, re.NOFLAG),
    _place("secret", _HINTS,
           rf"^[\s>#*+-]{{0,12}}(?:export\s+|set\s+|env\s+)?[\w.-]{{0,40}}?{_NAME}\s{{0,8}}[:=]\s{{0,8}}"
           r"([^\s\"'(){}\[\],<>]{8,400})[ \t]*$", BARE, re.IGNORECASE | re.MULTILINE),
    _place("secret", _HINTS, rf"(?<!\w)--?[\w-]{{0,30}}?{_NAME}[=\s]\s?[\"']?([^\s\"'$<>\[\](){{}},]{{8,400}})", NAMED),
    _place("secret", _HINTS, r"\b(?:password|passphrase|passwd|token|secret|api key)\s(?:is|was|to|=|:)\s{1,2}[\"'`]?"
           r"([^\s\"'`$<>\[\](){},]{8,400})", NAMED),
)  # fmt: skip

RULES = (*KEYS, *CLOUDS, *MODELS, *CODE, *PEOPLE, *PLACES, *NAMES)

_STANDS_FOR = re.compile(
    r"^(?:\$\{?[\w:-]+\}?|<.*>|\{+.*\}+|%\(?\w*\)?s?%?|[*x.•_#-]+|\[redacted.*)$|your[-_ ]|change[-_]?me|placeholder"
    r"|redacted|\*{3}|\.\.\.|…|x{4}|insert[-_]|my[-_](?:api|secret|token|pass)|\{[A-Za-z_][\w.!:()\[\]]*\}|\$\(|^\$\w+"
    r"|%\(\w+\)",
    re.IGNORECASE,
)
_WORDS = frozenset({
    "password", "passwd", "pass", "pwd", "secret", "token", "user", "username", "key", "apikey", "api_key", "none",
    "null", "true", "false", "undefined", "test", "example", "admin", "root", "guest", "foobar", "abcdef", "12345678",
})  # fmt: skip
_ADDRESS = re.compile(
    r"^(?:~|\.{1,2})?/|://|^[A-Za-z]:\\|\.(?:py|js|ts|pem|crt|cer|json|ya?ml|txt|md|toml|ini|cfg|sh|go|rs|c|h|html?)$"
)
_CODE = re.compile(r"^[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)*[;:,]?$|\w\(|\)\.|\[\w*\]")
_FIGURES = re.compile(r"^[\d:.,TZ+/-]+$|^v?\d+\.\d+|^0x[0-9a-fA-F]{1,16}$")
_PIECES = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
#: what no word of a program has: many consonants in a row, a digit between letters inside a word, capitals behind it
_UNSPEAKABLE = re.compile(
    r"(?i:[bcdfghjklmnpqrstvwxz]{6})|[a-z]\d[a-z]{3}|[A-Z]\d[A-Z]{2}|[a-z][A-Z]{2,}[a-z].*[a-z][A-Z]{2,}[a-z]"
)
_SIGNS = frozenset("!@#$%^&*+=?~|")


def stands_for_one(value: str) -> bool:
    """Return whether `value` is a word that only stands where a secret would: `$TOKEN`, `<key>`, `changeme`, `****`."""
    return value.lower() in _WORDS or _STANDS_FOR.search(value) is not None


def looks_like_one(value: str, bare: bool = False) -> bool:
    """
    Return whether a value with a name such as `token` is one, and not a word, a path, a version or an expression.

    Args:
        value: what stands there.
        bare: without quotes, where code may stand too: what could be an identifier must look made by chance.
    """
    if len(value) < 8 or stands_for_one(value) or _ADDRESS.search(value) or _FIGURES.search(value):
        return False
    sorts = [_sort(c) for c in value]
    changes = sum(a != b for a, b in pairwise(sorts))
    by_chance = len(value) >= 12 and changes >= 0.3 * (len(value) - 1)
    if _CODE.search(value) and (bare or "(" in value):
        return by_chance and "d" in sorts and "." not in value and not _is_wordy(value)
    if "d" in sorts and ("l" in sorts or "u" in sorts):
        return not _is_wordy(value) or bool(_SIGNS & set(value))
    if _SIGNS & set(value):
        return len(value) >= 10 and "l" in sorts and "_" not in value
    return len(value) >= 16 and value.isalnum() and changes >= 0.4 * (len(value) - 1)


def _sort(c: str) -> str:
    return "d" if c.isdigit() else "u" if c.isupper() else "l" if c.islower() else "s"


def _is_wordy(value: str) -> bool:
    """Return whether a value is words as people and programs string them together: oauth2_token, MyToken12, a-name."""
    pieces = _PIECES.findall(value)
    words = [len(piece) for piece in pieces if piece[0].isalpha()]
    odd = len(pieces) - len(words) > 2 or _UNSPEAKABLE.search(value) is not None
    return bool(words) and sum(words) >= 3.4 * len(words) and not odd
