"""Secrets of forty shapes and more, made up anew in each process so that none stands in this repository."""

from __future__ import annotations

import base64
import json
import random
import string
from typing import NamedTuple

LOWER, DIGITS = string.ascii_lowercase, string.digits
WORD = string.ascii_letters + DIGITS
HEX = "0123456789abcdef"
BASE64 = WORD + "+/"
URLSAFE = WORD + "-_"


class Planted(NamedTuple):
    """One secret, as people and programs write it."""

    shape: str
    text: str
    secret: str


def planted(seed: int = 8) -> list[Planted]:
    """Return one of each shape."""
    rnd = random.Random(seed)

    def some(letters: str, n: int) -> str:
        made = "".join(rnd.choices(letters, k=n))
        return made if any(c.isdigit() for c in made) or letters.isalpha() else some(letters, n)

    def jwt() -> str:
        def part(data: object) -> str:
            return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")

        return f"{part({'alg': 'HS256'})}.{part({'sub': some(DIGITS, 8)})}.{some(URLSAFE, 43)}"

    def pem(kind: str, escaped: bool = False) -> tuple[str, str]:
        lines = [some(BASE64, 64) for _ in range(4)]
        end = "\\n" if escaped else "\n"
        return f"-----BEGIN {kind}-----{end}{end.join(lines)}{end}-----END {kind}-----", lines[2]

    bot = base64.b64encode(some(DIGITS, 18).encode()).decode()
    found: list[tuple[str, str, str]] = []

    def whole(shape: str, secret: str, text: str = "{}") -> None:
        found.append((shape, text.replace("{}", secret), secret))

    whole("aws access key", "AKIA" + some(string.ascii_uppercase + DIGITS, 16), "aws_access_key_id = {}")
    whole("aws session key", "ASIA" + some(string.ascii_uppercase + DIGITS, 16), 'id: "{}"')
    whole("aws secret key", some(BASE64, 40), "aws_secret_access_key = {}")
    whole("aws secret in json", some(BASE64, 40), '{"SecretAccessKey": "{}", "Expiration": "2026"}')
    whole("aws credentials csv", some(BASE64, 40), "AKIA" + some(string.ascii_uppercase + DIGITS, 16) + ",{}")
    whole("github classic", "ghp_" + some(WORD, 36), "git clone https://{}@github.com/a/b")
    whole("github fine-grained", f"github_pat_{some(WORD, 22)}_{some(WORD, 59)}", "use {} for it")
    whole("gitlab", "glpat-" + some(URLSAFE, 19) + "1", "PRIVATE-TOKEN: {}")
    whole("slack bot", f"xoxb-{some(DIGITS, 12)}-{some(DIGITS, 12)}-{some(WORD, 24)}")
    whole("slack webhook", f"T{some(WORD, 8)}/B{some(WORD, 8)}/{some(WORD, 24)}", "https://hooks.slack.com/services/{}")
    whole("stripe", "sk_" + "live_" + some(WORD, 24), "stripe.api_key = '{}'")
    whole("openai project", "sk-proj-" + some(URLSAFE, 80) + "9", "OPENAI_API_KEY={}")
    whole("openai classic", f"sk-{some(WORD, 20)}T3BlbkFJ{some(WORD, 20)}", "Bearer {}")
    whole("anthropic", f"sk-ant-api03-{some(URLSAFE, 90)}AA", 'x-api-key: "{}"')
    whole("openrouter", "sk-or-v1-" + some(HEX, 64))
    whole("google api", "AIza" + some(URLSAFE, 34) + "k", "https://maps.googleapis.com/?key={}&q=a")
    whole("google oauth secret", "GOCSPX-" + some(URLSAFE, 27) + "x")
    whole("google access token", "ya29." + some(URLSAFE, 60) + "a", "token {}")
    whole("hugging face", "hf_" + some(string.ascii_letters, 33) + "4", "HF: {}")
    whole("npm", "npm_" + some(WORD, 36), "//packages.example.org/:_authToken={}")
    whole("pypi", "pypi-AgEIcHlwaS5vcmc" + some(URLSAFE, 80) + "A", "password = {}")
    whole("sendgrid", f"SG.{some(URLSAFE, 22)}.{some(URLSAFE, 42)}A")
    whole("twilio", "SK" + some(HEX, 32), "twilio.Client('{}')")
    whole("mailgun", "key-" + some(HEX, 32), "api:{}")
    whole("mailchimp", some(HEX, 32) + "-us14")
    whole("discord bot", f"{bot}.{some(WORD, 6)}.{some(URLSAFE, 37)}a", "client.run('{}')")
    whole("telegram", f"{some(DIGITS[1:], 9)}:AA{some(WORD, 33)}", "https://api.telegram.org/bot{}/getMe")
    whole("digitalocean", "dop_v1_" + some(HEX, 64))
    whole("shopify", "shpat_" + some(HEX, 32))
    whole("databricks", "dapi" + some(HEX, 32))
    whole("vault", "hvs." + some(WORD, 90), "vault login {}")
    whole("terraform", f"{some(WORD, 14)}.atlasv1.{some(WORD, 67)}", 'token = "{}"')
    whole("azure storage", some(BASE64, 86) + "==", "AccountName=a;AccountKey={};EndpointSuffix=core.windows.net")
    whole("grafana", f"glsa_{some(WORD, 32)}_{some(HEX, 8)}")
    whole("docker hub", "dckr_pat_" + some(WORD, 27), "docker login -u me -p {}")
    whole("linear", "lin_api_" + some(WORD, 40))
    whole("postman", f"PMAK-{some(HEX, 24)}-{some(HEX, 34)}")
    whole("age key", "AGE-SECRET-KEY-1" + some(string.ascii_uppercase + DIGITS, 58))
    whole("groq", "gsk_" + some(WORD, 52))
    whole("jwt", jwt(), "Cookie: session={}; theme=dark")
    whole("password in a url", some(WORD, 14), "postgresql://app:{}@db.internal:5432/app")
    whole("password in a url without a user", some(WORD, 20), "redis://:{}@cache:6379/0")
    whole("bearer header", some(WORD, 40), "curl -H 'Authorization: Bearer {}' https://api.example.org")
    whole("basic header", base64.b64encode(f"me:{some(WORD, 12)}".encode()).decode(), "Authorization: Basic {}")
    whole(
        "bearer in a traceback", some(WORD, 40), "  requests.get(url, headers={'Authorization': 'Bearer {}'})\nKeyError"
    )
    whole("session cookie", some(HEX, 32), "Set-Cookie: sessionid={}; HttpOnly")
    whole("environment", some(WORD, 24), "PATH=/usr/bin\nDATABASE_PASSWORD={}\nHOME=/root")
    whole("environment, quoted", some(WORD, 30), 'export STRIPE_WEBHOOK_SECRET="{}"')
    whole("django", "django-insecure-" + some(LOWER + DIGITS + "!@#$%^&*(-_=+)", 50), "SECRET_KEY = '{}'")
    whole("python assignment", some(WORD, 24), 'api_key = "{}"  # remove me')
    whole("json field", some(WORD, 32), '{"user": "me", "client_secret": "{}"}')
    whole("json in json", some(WORD, 32), r'{"body": "{\"apiKey\": \"{}\"}"}')
    whole("yaml field", some(WORD, 20), "db:\n  user: me\n  password: {}\n  port: 1")
    whole("command line", some(WORD, 18), "deploy --token {} --verbose")
    whole("curl user", some(WORD, 12), "curl -u admin:{} https://example.org")
    whole("netrc", some(WORD, 12), "machine example.org login me password {}")
    whole("connection string", some(WORD, 12), "Server=db;Database=x;User Id=sa;Password={};Encrypt=yes")
    whole("signed url", some(HEX, 64), "https://b.s3.amazonaws.com/k?X-Amz-Expires=9&X-Amz-Signature={}")
    whole("access token in a url", some(WORD, 40), "https://example.org/cb?access_token={}&state=1")
    whole("password hash", f"$6${some(WORD, 8)}${some(WORD + './', 86)}", "root:{}:19000:0:99999:7:::")
    whole("said in words", some(WORD, 16), "the password is {} by the way")
    whole("coloured", "ghp_" + some(WORD, 36), "token: \x1b[32m{}\x1b[0m")
    whole("after an escaped newline", "ghp_" + some(WORD, 36), '"first line\\n{}\\n"')
    for kind in ("RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PRIVATE KEY"):
        text, line = pem(kind)
        found.append((kind.lower(), f"cat key\n{text}\n$", line))
    text, line = pem("PRIVATE KEY", escaped=True)
    found.append(
        ("service account", json.dumps({"type": "service_account"})[:-1] + f', "private_key": "{text}"}}', line)
    )
    cut, line = pem("EC PRIVATE KEY")
    found.append(("cut private key", cut[:230], line))
    return [Planted(*one) for one in found]
