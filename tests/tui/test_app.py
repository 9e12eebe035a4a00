"""What holds for the whole workbench: settings, keys, themes, help, and its own faults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tui.conftest import workbench
from tests.tui.screen_text import in_mid_run, screen_text, until
from tui.app import Workbench
from tui.settings import Settings, load_settings, save_settings


def test_settings_are_read_and_what_makes_no_sense_is_said_and_ignored(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == (Settings(), ())
    (tmp_path / "settings.toml").write_text(
        'theme = "nord"\nmouse = "no"\nfps = 900\nwhat = 1\n[keymap]\n"run.stop" = "x"\n"run.skip" = 3\n',
        encoding="utf-8",
    )
    settings, problems = load_settings(tmp_path)
    assert settings == Settings(theme="nord", keymap={"run.stop": "x"})
    assert len(problems) == 4
    assert all(str(tmp_path) in problem for problem in problems)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"theme = ", b"[[[", b"a = 1\na = 2"])
def test_a_broken_settings_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "settings.toml").write_bytes(content)
    settings, problems = load_settings(tmp_path)
    assert settings == Settings()
    assert len(problems) == 1


async def test_problems_of_the_settings_are_notifications(bare: Path) -> None:
    app = workbench(bare, settings=Settings(theme="no-such-theme"), problems=("The file was [b]ignored[/b].",))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        text = await until(pilot, lambda text: "no-such-theme" in text, "the theme's problem")
        assert "The file was [b]ignored[/b]." in text


async def test_the_users_keymap_holds(bare: Path) -> None:
    app = workbench(bare, settings=Settings(keymap={"screen.methods": "m"}))
    async with app.run_test(notifications=True) as pilot:
        await pilot.press("m")
        assert app.current_mode == "methods"
        await until(pilot, lambda text: "m methods" in text, "the key at the bottom")


@pytest.mark.parametrize("theme", ["textual-light", "nord"])
async def test_colours_follow_the_theme(running: Path, theme: str) -> None:
    app = workbench(running)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await until(pilot, in_mid_run, "the request")
        dark = app.export_screenshot()
        app.theme = theme
        await pilot.pause(0.2)
        light = app.export_screenshot()
        assert dark != light
        assert app.theme_variables["background"].lower() != ""


async def test_a_theme_chosen_in_the_palette_is_kept(bare: Path) -> None:
    app = workbench(bare)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await until(pilot, lambda text: "[✓] baseline" in text, "the catalogue")
        assert not (bare / "config").exists()  # nothing was chosen
        app.search_themes()
        await until(pilot, lambda text: "Search for themes" in text, "the themes")
        await pilot.press(*"nord")
        await until(pilot, lambda text: re.search(r"^\W*nord\s*$", text, re.MULTILINE), "the one that was typed")
        await pilot.press("enter", "enter")
        await until(pilot, lambda _: load_settings(bare / "config")[0].theme == "nord", "the theme in the file")
    assert app.theme == "nord"


async def test_a_theme_that_cannot_be_kept_holds_for_now_and_says_so(bare: Path) -> None:
    (bare / "config").mkdir()
    (bare / "config" / "settings.toml").write_text("theme = ", encoding="utf-8")
    app = workbench(bare)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        app.theme = "nord"
        await until(pilot, lambda text: "The theme was not saved" in text, "the sentence")
    assert (bare / "config" / "settings.toml").read_text(encoding="utf-8") == "theme = "


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'theme = "nord"\n'),
        ('# mine\ntheme="gruvbox"   # warm\nfps = 8\n', '# mine\ntheme="nord"   # warm\nfps = 8\n'),
        ("'theme' = 'gruvbox'\r\nmouse = false", "'theme' = \"nord\"\r\nmouse = false"),
        (
            'fps = 8 # few\n\n[keymap]\n"run.stop" = "x"\n',
            'theme = "nord"\nfps = 8 # few\n\n[keymap]\n"run.stop" = "x"\n',
        ),
        ('[keymap]\ntheme = "t"\n', 'theme = "nord"\n[keymap]\ntheme = "t"\n'),
    ],
)
def test_a_kept_theme_changes_one_line(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "settings.toml"
    if before:
        file.write_bytes(before.encode())
    assert save_settings(tmp_path, "The theme was", {"theme": "nord"}) == ""
    assert file.read_bytes().decode() == after
    assert save_settings(tmp_path, "The theme was", {"theme": "nord"}) == ""


@pytest.mark.parametrize("content", [b"\xff\xfe", b"theme = ", b'theme = """gruvbox"""\n', b'"theme" = "a\\"b"\n'])
def test_a_settings_file_that_cannot_be_changed_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(content)
    assert str(file) in save_settings(tmp_path, "The theme was", {"theme": "nord"})
    assert file.read_bytes() == content


def test_a_read_only_settings_file_is_left_alone_and_a_link_stays_one(tmp_path: Path) -> None:
    dotfiles = tmp_path / "dotfiles.toml"
    dotfiles.write_text('theme = "gruvbox"\n', encoding="utf-8")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.toml").symlink_to(dotfiles)
    dotfiles.chmod(0o444)
    assert "read-only" in save_settings(tmp_path / "config", "The theme was", {"theme": "nord"})
    assert dotfiles.read_text(encoding="utf-8") == 'theme = "gruvbox"\n'
    dotfiles.chmod(0o644)
    assert save_settings(tmp_path / "config", "The theme was", {"theme": "nord"}) == ""
    assert (tmp_path / "config" / "settings.toml").is_symlink()
    assert dotfiles.read_text(encoding="utf-8") == 'theme = "nord"\n'


async def test_every_binding_has_an_id_and_a_tooltip() -> None:
    from tui.screens.compare import CompareScreen
    from tui.screens.methods import MethodsScreen
    from tui.screens.run import RunScreen
    from tui.screens.session import SessionScreen
    from tui.screens.sessions import SessionsScreen
    from tui.widgets.live_text import LiveText
    from tui.widgets.row_list import RowList

    seen: set[str] = set()
    for owner in (Workbench, RunScreen, SessionsScreen, CompareScreen, MethodsScreen, SessionScreen, RowList, LiveText):
        for binding in owner.BINDINGS:
            assert not isinstance(binding, tuple)
            assert binding.id, binding
            assert binding.tooltip, binding
            assert binding.id not in seen
            seen.add(binding.id)


async def test_help_names_the_keys_of_the_screen_below(bare: Path) -> None:
    async with workbench(bare).run_test(size=(120, 60), notifications=True) as pilot:
        await pilot.press("2", "question_mark")
        text = await until(pilot, lambda text: "Help: escape closes it" in text, "the help")
        assert "[sessions.delete]" in text
        assert "[screen.compare]" in text
        await pilot.press("escape")
        await until(pilot, lambda text: "Help: escape" not in text, "the screen again")


async def test_a_worker_that_fails_is_a_sentence_and_the_app_goes_on(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessions.disk.store import Store

    def broken(self: Store) -> list[object]:
        raise RuntimeError("planted")

    monkeypatch.setattr(Store, "listed", broken)
    async with workbench(bare).run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.press("2")
        text = await until(pilot, lambda text: "planted" in text, "the sentence")
        assert "Reading the sessions failed" in text
        assert "workbench-failure.log" in text
        assert "planted" in (bare / "workbench-failure.log").read_text(encoding="utf-8")
        await pilot.press("4")
        assert pilot.app.current_mode == "methods"


async def test_a_fault_of_the_workbench_ends_in_a_sentence_and_a_file(bare: Path) -> None:
    app = workbench(bare)
    with pytest.raises(ZeroDivisionError):
        await divide_by_zero(app)
    assert "workbench crashed (ZeroDivisionError)" in app.farewell
    assert "ZeroDivisionError" in (bare / "workbench-failure.log").read_text(encoding="utf-8")
    assert app.return_code == 1


async def divide_by_zero(app: Workbench) -> None:
    async with app.run_test() as pilot:
        app.call_later(lambda: 1 / 0)
        await pilot.pause(0.2)


async def test_an_unwritable_home_is_a_sentence_on_the_form(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    app = Workbench(tmp_path / "file" / "home", tmp_path / "config")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda text: "cannot write to" in text, "the sentence")
        assert "Traceback" not in screen_text(app)
