"""What would end a detached session at logout, from made-up configurations of logind."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.host.logout import ending_at_logout
from sessions.device import doctor

LOGIN = "0::/user.slice/user-1000.slice/session-3.scope\n"
HYBRID = "12:cpu:/\n1:name=systemd:/user.slice/user-1000.slice/session-c1.scope\n0::/user.slice\n"
SERVICE_MANAGER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-u7.scope\n"
CONTAINER = "0::/\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine that systemd runs, with a login's process in it."""
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    write(tmp_path, "proc/self/cgroup", LOGIN)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def kill(root: Path, value: str = "yes", name: str = "etc/systemd/logind.conf", more: str = "") -> None:
    write(root, name, f"# made up\n[Login]\n#NAutoVTs=6\nKillUserProcesses={value}\n{more}\n")


def cause(root: Path, user: str = "mei") -> str:
    found = ending_at_logout(root, user)
    return found.cause if found else ""


def test_without_systemd_there_is_nothing_to_report(root: Path) -> None:
    kill(root)
    (root / "run/systemd/system").rmdir()
    assert ending_at_logout(root, "mei") is None


def test_by_default_nothing_ends_a_logins_processes(root: Path) -> None:
    assert cause(root) == ""
    write(root, "etc/systemd/logind.conf", "[Login]\n#KillUserProcesses=yes\n")
    assert cause(root) == ""


@pytest.mark.parametrize("groups", [LOGIN, HYBRID])
def test_kill_user_processes_is_reported_with_the_remedy(root: Path, groups: str) -> None:
    write(root, "proc/self/cgroup", groups)
    kill(root)
    found = ending_at_logout(root, "mei")
    assert found is not None
    assert "KillUserProcesses=yes" in found.cause
    assert found.remedy.startswith("loginctl enable-linger, then systemd-run --user --scope kasoku run")


def test_lingering_alone_does_not_save_a_logins_processes(root: Path) -> None:
    """The session's scope is ended all the same; what runs in the user's own service manager is not."""
    kill(root)
    write(root, "var/lib/systemd/linger/mei", "")
    found = ending_at_logout(root, "mei")
    assert found is not None
    assert found.remedy.startswith("systemd-run --user --scope kasoku run")
    write(root, "proc/self/cgroup", SERVICE_MANAGER)
    assert ending_at_logout(root, "mei") is None


@pytest.mark.parametrize("value", ["yes", "true", "on", "1", "YES", "y"])
def test_every_way_to_say_yes(root: Path, value: str) -> None:
    kill(root, value)
    assert cause(root)


@pytest.mark.parametrize("value", ["no", "false", "0", "off", "", "maybe"])
def test_anything_else_is_no(root: Path, value: str) -> None:
    kill(root, value)
    assert cause(root) == ""


def test_drop_ins_count_by_their_names_wherever_they_lie(root: Path) -> None:
    kill(root, "no")
    kill(root, "yes", "usr/lib/systemd/logind.conf.d/50-kill.conf")
    assert cause(root)
    kill(root, "no", "etc/systemd/logind.conf.d/40-keep.conf")
    assert cause(root), "50 comes after 40, though it lies in /usr/lib"
    kill(root, "no", "run/systemd/logind.conf.d/60-keep.conf")
    assert cause(root) == ""
    (root / "etc/systemd/logind.conf.d/60-keep.conf").symlink_to("/dev/null")
    assert cause(root), "masked"
    kill(root, "no", "etc/systemd/logind.conf.d/50-kill.conf")
    assert cause(root) == "", "a file of the same name in /etc takes the other's place"
    kill(root, "yes", "etc/systemd/logind.conf.d/90-unread.txt")
    assert cause(root) == ""


def test_the_main_file_in_etc_replaces_the_vendors(root: Path) -> None:
    kill(root, "yes", "usr/lib/systemd/logind.conf")
    assert cause(root)
    write(root, "etc/systemd/logind.conf", "[Login]\n")
    assert cause(root) == ""


def test_whom_logind_spares(root: Path) -> None:
    kill(root)
    assert cause(root, "root") == "", "by default"
    kill(root, more="KillExcludeUsers=mei ola")
    assert (cause(root, "mei"), cause(root, "root")) == ("", "")
    assert cause(root, "ana")
    kill(root, more="KillExcludeUsers=")
    assert cause(root, "root")
    kill(root, more="KillOnlyUsers=ola")
    assert (cause(root, "mei"), bool(cause(root, "ola"))) == ("", True)


def test_below_the_users_service_manager_lingering_is_what_counts(root: Path) -> None:
    write(root, "proc/self/cgroup", SERVICE_MANAGER)
    found = ending_at_logout(root, "mei")
    assert found is not None
    assert found.remedy == "loginctl enable-linger"
    write(root, "var/lib/systemd/linger/mei", "")
    assert ending_at_logout(root, "mei") is None


def test_a_container_or_a_service_is_no_login(root: Path) -> None:
    kill(root)
    for groups in (CONTAINER, "0::/system.slice/sshd.service\n", ""):
        write(root, "proc/self/cgroup", groups)
        assert cause(root) == ""


def test_rubbish_in_a_file_is_passed_over(root: Path) -> None:
    kill(root)
    (root / "etc/systemd/logind.conf.d").mkdir()
    (root / "etc/systemd/logind.conf.d/50-x.conf").write_bytes(b"\xff\xfe[[[\nKillUserProcesses\n=\n")
    (root / "etc/systemd/logind.conf.d/60-folder.conf").mkdir()
    assert cause(root)


def test_the_doctor_says_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(root)
    monkeypatch.setattr("sessions.device.doctor.ending_at_logout", lambda: ending_at_logout(root, "mei"))
    (finding,) = doctor._logout()
    assert finding.level == "warning"
    assert finding.text.endswith("A detached session would end too.")
    assert "loginctl enable-linger" in finding.remedy


def test_this_machine_can_be_asked() -> None:
    found = ending_at_logout()
    assert found is None or found.remedy
