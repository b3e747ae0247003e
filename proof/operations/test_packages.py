"""What a user has set for pip holds for uv, or pip is used; and nothing with another hash is installed."""

import base64
import hashlib
import io
import re
import ssl
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from operations import commands, debian, packages
from operations.commands import VENV
from operations.waiting import wait_until

PASSWORD: Final = "s3cret@word"
QUOTED: Final = "s3cret%40word"
AUTHORITY: Final = trustme.CA()

pytestmark = pytest.mark.skipif(not packages.UV.exists(), reason="there is no uv for this machine")


def _wheel(version: str = "1.0", text: str = "") -> dict[str, bytes]:
    """Return a wheel of the package `thing`, by its file name."""
    content, folder = io.BytesIO(), f"thing-{version}.dist-info"
    files = {
        "thing.py": text,
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n",
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{folder}/RECORD": "",
    }
    with zipfile.ZipFile(content, "w") as archive:
        for name, written in files.items():
            archive.writestr(zipfile.ZipInfo(name), written)
    return {f"thing-{version}-py3-none-any.whl": content.getvalue()}


THING: Final = _wheel()
FORGED: Final = _wheel(text="forged")


class Index(ThreadingHTTPServer):
    """A package index with the files of one package, which is a proxy too.

    Args:
        files: what it has, by name.
        password: of the user `me`, or empty.
        proxy_password: the same, for a proxy.
        context: for TLS.
        silent: never answers.
    """

    daemon_threads = True

    def __init__(
        self,
        files: Mapping[str, bytes] = THING,
        *,
        password: str = "",
        proxy_password: str = "",
        context: ssl.SSLContext | None = None,
        silent: bool = False,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.silent = files, silent
        self.wanted = {"Authorization": password, "Proxy-Authorization": proxy_password}
        self.held: list[float] = []
        self.address = f"{'https' if context else 'http'}://127.0.0.1:{self.server_port}"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"{self.address}/simple"

    def with_user(self, user: str) -> str:
        return self.url.replace("://", f"://{user}@")

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust this server leaves."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Index

    def do_GET(self) -> None:
        if self.server.silent:
            started = time.monotonic()
            self.connection.recv(1)  # Until the client gives up.
            self.server.held.append(time.monotonic() - started)
            self.close_connection = True
            return None
        for header, password in self.server.wanted.items():
            login = "Basic " + base64.b64encode(f"me:{password}".encode()).decode()
            if password and self.headers.get(header) != login:
                return self._answer(407 if header.startswith("Proxy") else 401, b"", "text/plain")
        name = self.path.rpartition("/")[2]
        if name in self.server.files:
            return self._answer(200, self.server.files[name], "application/octet-stream")
        links = [(name, hashlib.sha256(content).hexdigest()) for name, content in self.server.files.items()]
        page = "".join(f'<a href="{name}#sha256={digest}">{name}</a>' for name, digest in links).encode()
        return self._answer(200 if self.path.endswith("/simple/thing/") else 404, page, "text/html")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the standard library
        """Nothing is logged."""


Start = Callable[..., Index]
Settings = dict[str, str]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as started:
        yield lambda *arguments, **options: started.enter_context(closing(Index(*arguments, **options)))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine of a user who has set nothing for pip or uv."""
    for name in commands.environment():
        if name.startswith(("PIP_", "UV_", "SSL_", "REQUESTS_", "CURL_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(commands, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    _forget()
    yield monkeypatch
    _forget()


def _forget() -> None:
    packages._settings.cache_clear()
    packages._variables_of_uv.cache_clear()


def _set(machine: pytest.MonkeyPatch, tmp_path: Path, settings: Settings, where: str) -> None:
    if where == "environment":
        for name, value in settings.items():
            machine.setenv(f"PIP_{name.upper().replace('-', '_')}", value)
    else:
        lines = [f"{name} = {value}\n" for name, value in settings.items()]
        (tmp_path / "pip.conf").write_text("".join(["[global]\n", *lines]))
        machine.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A virtual environment without pip, in a folder with a space."""
    folder = tmp_path / "mit Leerzeichen" / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


def _install(target: Path) -> str:
    """Install the package into the target, and return which program did it; empty where nothing is installed."""
    lock = target / "lock.txt"
    (content,) = THING.values()
    lock.write_text(f"thing==1.0 --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
    packages.install_packages(target, lock)
    return _installed(target)


def _installed(target: Path) -> str:
    return "".join(file.read_text().strip() for file in target.glob("lib/python*/site-packages/thing-*/INSTALLER"))


def _tls(tmp_path: Path, *, of_client: bool = False) -> tuple[ssl.SSLContext, str]:
    """Return a server's context, and the file of the authority that it needs."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    if of_client:
        context.verify_mode = ssl.CERT_REQUIRED
        AUTHORITY.configure_trust(context)
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return context, str(tmp_path / "authority.pem")


def _index(tmp_path: Path, start: Start) -> Settings:
    return {"index-url": start().url}


def _credentials(tmp_path: Path, start: Start) -> Settings:
    return {"index-url": start(password=PASSWORD).with_user(f"me:{QUOTED}")}


def _extra_index(tmp_path: Path, start: Start) -> Settings:
    return {"index-url": start({}).url, "extra-index-url": f"{start(_wheel('2.0')).url}\n  {start().url}"}


def _another_version_in_an_extra_index(tmp_path: Path, start: Start) -> Settings:
    return {"index-url": start().url, "extra-index-url": start(_wheel("2.0")).url}


def _find_links(tmp_path: Path, start: Start) -> Settings:
    (tmp_path / "home" / "wheels").mkdir(parents=True)
    for name, content in THING.items():
        (tmp_path / "home" / "wheels" / name).write_bytes(content)
    return {"index-url": start({}).url, "find-links": f"{tmp_path} ~/wheels"}


def _certificate(tmp_path: Path, start: Start) -> Settings:
    context, authority = _tls(tmp_path)
    return {"index-url": start(context=context).url, "cert": authority}


def _client_certificate(tmp_path: Path, start: Start) -> Settings:
    context, authority = _tls(tmp_path, of_client=True)
    AUTHORITY.issue_cert("me@packages.test").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "me.pem"))
    return {"index-url": start(context=context).url, "cert": authority, "client-cert": str(tmp_path / "me.pem")}


def _trusted_host(tmp_path: Path, start: Start) -> Settings:
    return {"index-url": start(context=_tls(tmp_path)[0]).url, "trusted-host": "127.0.0.1"}


def _proxy(tmp_path: Path, start: Start) -> Settings:
    proxy = start(proxy_password=PASSWORD).address.replace("://", f"://me:{QUOTED}@")
    return {"index-url": "http://packages.test/simple", "proxy": proxy}


def _constraint(tmp_path: Path, start: Start) -> Settings:
    (tmp_path / "constraints.txt").write_text("thing<2\nother<3\n")
    return {"index-url": start().url, "constraint": str(tmp_path / "constraints.txt")}


def _where_to_install(tmp_path: Path, start: Start) -> Settings:
    return {"index-url": start().url, "user": "1", "quiet": "1"}


KINDS = [
    *(_index, _credentials, _extra_index, _another_version_in_an_extra_index, _find_links, _certificate),
    *(_client_certificate, _trusted_host, _proxy, _constraint, _where_to_install),
]


@pytest.mark.parametrize("where", ["environment", "pip.conf"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_what_is_set_for_pip_holds_for_uv(
    *,
    tmp_path: Path,
    machine: pytest.MonkeyPatch,
    start: Start,
    target: Path,
    kind: Callable[[Path, Start], Settings],
    where: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _set(machine, tmp_path, kind(tmp_path, start), where)
    assert _install(target) == "uv"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "HTTP_PROXY", "NETRC"])
def test_what_other_variables_say_to_pip_holds_for_uv(
    tmp_path: Path, machine: pytest.MonkeyPatch, start: Start, target: Path, name: str
) -> None:
    if name == "HTTP_PROXY":
        url, value = "http://packages.test/simple", start().address
    elif name == "NETRC":
        url, value = start(password=PASSWORD).url, str(tmp_path / "netrc")
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
    else:
        context, value = _tls(tmp_path)
        url = start(context=context).url
    machine.setenv(name, value)
    machine.setenv("PIP_INDEX_URL", url)
    assert _install(target) == "uv"


def test_what_is_set_for_uv_itself_is_not_read(
    tmp_path: Path, machine: pytest.MonkeyPatch, start: Start, target: Path
) -> None:
    folder = tmp_path / "home" / ".config" / "uv"
    folder.mkdir(parents=True)
    (folder / "uv.toml").write_text("no-index = true\n")
    machine.delenv("XDG_CONFIG_HOME", raising=False)
    machine.setenv("UV_OFFLINE", "1")
    machine.setenv("PIP_INDEX_URL", start().url)
    assert _install(target) == "uv"


def test_a_constraint_that_excludes_what_is_pinned_is_a_refusal(
    tmp_path: Path, machine: pytest.MonkeyPatch, start: Start, target: Path
) -> None:
    (tmp_path / "constraints.txt").write_text("thing<1\n")
    machine.setenv("PIP_INDEX_URL", start().url)
    machine.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    with pytest.raises(subprocess.CalledProcessError):
        _install(target)
    assert _installed(target) == ""


def test_a_timeout_that_is_set_for_pip_holds_for_uv(machine: pytest.MonkeyPatch, start: Start, target: Path) -> None:
    index = start(silent=True)
    for name, value in {"INDEX_URL": index.url, "DEFAULT_TIMEOUT": "0.5", "RETRIES": "0"}.items():
        machine.setenv(f"PIP_{name}", value)
    with pytest.raises(subprocess.CalledProcessError):
        _install(target)
    assert wait_until(lambda: len(index.held) == 2, 60)  # Each of the two tried once,
    assert max(index.held) < 10  # where uv waits for 30 seconds by itself.


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ""),
        ({"constraint": "constraints.txt"}, ""),
        ({"only-binary": ":all:"}, "only pip has the setting only-binary"),
    ],
    ids=["uv", "uv with a constraint", "pip"],
)
def test_a_file_with_another_hash_is_refused_by_both(
    *,
    tmp_path: Path,
    machine: pytest.MonkeyPatch,
    start: Start,
    target: Path,
    settings: Settings,
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "constraints.txt").write_text("thing<2\n")
    if "constraint" in settings:
        settings = {"constraint": str(tmp_path / "constraints.txt")}
    index = start(FORGED, password=PASSWORD)
    _set(machine, tmp_path, {"index-url": index.with_user(f"me:{QUOTED}"), **settings}, "environment")
    with pytest.raises(subprocess.CalledProcessError):
        _install(target)
    assert _installed(target) == ""
    printed = "".join(capfd.readouterr())
    assert "hash" in printed.lower()
    assert (said or "uv could not install env (error: Failed to download `thing==1.0`); pip tries") in printed


@pytest.mark.parametrize("setting", ["index", "proxy", "nobody"])
def test_no_password_is_printed_or_an_argument_of_a_process(
    *,
    tmp_path: Path,
    machine: pytest.MonkeyPatch,
    start: Start,
    target: Path,
    setting: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    index = start(password="another", proxy_password="another")
    address = {"nobody": "http://127.0.0.1:9"}.get(setting, index.address).replace("://", f"://me:{QUOTED}@")
    url = f"{address}/simple" if setting != "proxy" else "http://packages.test/simple"
    settings = {"index-url": url, "retries": "0"} | ({"proxy": address} if setting == "proxy" else {})
    _set(machine, tmp_path, settings, "pip.conf")
    arguments: list[str] = []
    run = subprocess.run

    def recorded(command: list[str], **options: Any) -> Any:
        arguments.extend(map(str, command))
        return run(command, **options)

    machine.setattr(subprocess, "run", recorded)
    with pytest.raises(subprocess.CalledProcessError):
        _install(target)
    printed = "".join(capfd.readouterr())
    assert "uv could not install env" in printed
    assert str(packages.UV) in arguments
    assert not re.search("s3cret", f"{printed}{arguments}")


@pytest.mark.parametrize("where", ["environment", "pip.conf"])
def test_with_a_setting_that_uv_has_not_pip_installs(
    *,
    tmp_path: Path,
    machine: pytest.MonkeyPatch,
    start: Start,
    target: Path,
    where: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    elsewhere = {"target": str(tmp_path / "elsewhere"), "user": "1", "prefix": str(tmp_path / "elsewhere")}
    _set(machine, tmp_path, {"index-url": start().url, "prefer-binary": "1", **elsewhere}, where)
    assert _install(target) == "pip"
    out = "pip installs, which takes several times as long, because only pip has the setting prefer-binary\n"
    assert capfd.readouterr() == (out, "")


def test_pip_installs_what_uv_cannot(
    machine: pytest.MonkeyPatch, start: Start, target: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.setenv("PIP_INDEX_URL", start().url)
    machine.setenv("PIP_EXTRA_INDEX_URL", start(FORGED).url)  # The same version in another file.
    assert _install(target) == "pip"
    assert "uv could not install env (error: Failed to download `thing==1.0`); pip tries" in capfd.readouterr().out


@pytest.mark.parametrize("setting", ["auto", "subprocess"])
def test_a_password_may_come_from_keyring(
    tmp_path: Path, machine: pytest.MonkeyPatch, start: Start, target: Path, setting: str
) -> None:
    keyring = tmp_path / "keyring"
    keyring.write_text(f"#!/bin/sh\necho {PASSWORD}\n")
    keyring.chmod(0o755)
    machine.setenv("PATH", str(tmp_path), prepend=":")
    machine.setenv("PIP_INDEX_URL", start(password=PASSWORD).with_user("me"))
    if setting != "auto":
        machine.setenv("PIP_KEYRING_PROVIDER", setting)
    assert _install(target) == "pip"


@pytest.mark.parametrize("pip", [packages.INSTALLER, VENV], ids=["of this Python", "newest"])
def test_of_a_setting_in_several_places_the_one_counts_that_counts_for_pip(
    tmp_path: Path, machine: pytest.MonkeyPatch, pip: Path
) -> None:
    machine.setattr(packages, "_PIP", (pip / "bin" / "python", "-m", "pip"))
    text = {
        "z/pip": "[global]\nindex-url = a\ntimeout = 1\nproxy = kept\n[install]\ntrusted-host = a",
        "b": "[global]\nindex-url = b\ntimeout = 2\ntrusted-host = b\nquiet = 2\n[install]\ntimeout = 3\ncert = c",
    }
    for name, written in text.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "pip.conf").write_text(written)
    machine.setenv("XDG_CONFIG_DIRS", str(tmp_path / "z"))
    machine.setenv("PIP_CONFIG_FILE", str(tmp_path / "b" / "pip.conf"))
    machine.setenv("PIP_CERT", "d")
    machine.setenv("PIP_PROXY", "")
    settings = packages._settings()
    expected = {"index-url": "b", "timeout": "3", "proxy": "kept", "trusted-host": "a", "cert": "d"}
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.parametrize("has_pip", [True, False], ids=["with ensurepip", "without"])
def test_where_there_is_no_uv_or_no_pip_either_it_is_installed_all_the_same(
    *,
    tmp_path: Path,
    machine: pytest.MonkeyPatch,
    start: Start,
    target: Path,
    has_pip: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    installer = tmp_path / "installer"
    for name, value in {
        "INSTALLER": installer,
        "UV": installer / "bin" / "uv",
        "_PIP": (installer / "bin" / "python", "-m", "pip"),
    }.items():
        machine.setattr(packages, name, value)
    machine.setenv("PIP_INDEX_URL", start().url)
    unpacked = []

    def unpack(names: list[str], folder: Path) -> None:
        import ensurepip

        unpacked.extend(names)
        # Debian keeps the wheel where its other packages find it too.
        folder_of_wheels = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).parent / "_bundled"
        (wheel,) = Path(folder_of_wheels).glob("pip-*.whl")
        wheels = folder / "usr/share/python-wheels"
        wheels.mkdir(parents=True)
        (wheels / wheel.name).symlink_to(wheel)

    machine.setattr(debian, "unpack", unpack)
    if not has_pip:
        (tmp_path / "ensurepip.py").write_text("raise ImportError")
        machine.setenv("PYTHONPATH", str(tmp_path))
    assert _install(target) == "pip"
    assert unpacked == ([] if has_pip else ["python3-pip-whl"])
    assert "because uv could not be had: ERROR: No matching distribution found for uv==" in capfd.readouterr().out
    _forget()
    machine.setattr(packages, "_bring_pip", lambda: pytest.fail("pip is brought once"))
    machine.setattr(packages, "run", lambda *_, **__: "")
    packages._variables_of_uv()
