"""Output is complete or not there, and no place that cannot take it is found out after the work."""

import os
import stat
import subprocess
import sys

import pytest

from tokenization.write_aside import new_file, new_folder


def fill(folder):
    (folder / "a.txt").write_text("a")
    (folder / "more").mkdir()
    (folder / "more" / "b.txt").write_text("b")


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_is_there_at_the_end_and_not_before(tmp_path, exists):
    target = tmp_path / "new" / "out"
    if exists:
        target.mkdir(parents=True)
        inode = target.stat().st_ino
    with new_folder(target) as folder:
        assert folder.name == "out" and not list(folder.iterdir())
        fill(folder)
        assert not (target / "a.txt").exists()
    assert everything(tmp_path / "new") == ["out", "out/a.txt", "out/more", "out/more/b.txt"]
    if exists:
        assert target.stat().st_ino == inode, "the folder was replaced"


def test_permissions_are_those_of_anything_that_is_created(tmp_path):
    with new_folder(tmp_path / "out") as folder:
        fill(folder)
    with new_file(tmp_path / "file") as file:
        file.write_text("a")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "file").touch()
    for new, plain in (("out", "plain"), ("file", "plain/file")):
        assert stat.S_IMODE((tmp_path / new).stat().st_mode) == stat.S_IMODE((tmp_path / plain).stat().st_mode)


def test_the_working_directory_can_be_written_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with new_folder(".") as folder:
        fill(folder)
    assert everything(tmp_path) == ["a.txt", "more", "more/b.txt"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with new_folder(tmp_path / "link") as folder:
        fill(folder)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real" / "a.txt").is_file()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount a file system")
def test_an_empty_mount_point_can_be_written_to(tmp_path):
    mount = tmp_path / "mount"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", str(mount)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a file system here: {mounted.stderr.strip()}")
    try:
        with new_folder(mount) as folder:
            fill(folder)
        assert everything(mount) == ["a.txt", "more", "more/b.txt"]
    finally:
        subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_leaves_what_was_there(tmp_path, error, exists):
    (tmp_path / "out").mkdir()
    (tmp_path / "file").write_text("before")
    before = everything(tmp_path)
    with pytest.raises(type(error)), new_folder(tmp_path / "out" if exists else tmp_path / "x" / "y" / "z") as folder:
        fill(folder)
        raise error
    with pytest.raises(type(error)), new_file(tmp_path / "file" if exists else tmp_path / "x" / "y" / "z") as file:
        file.write_text("half")
        raise error
    assert everything(tmp_path) == before and (tmp_path / "file").read_text() == "before"


def test_a_file_is_replaced_and_its_folder_made(tmp_path):
    for target in (tmp_path / "file", tmp_path / "new" / "file"):
        for text in ("first", "second"):
            with new_file(target) as file:
                file.write_text(text)
            assert target.read_text() == text
    assert everything(tmp_path) == ["file", "new", "new/file"]


def places(tmp_path):
    """Each place that is refused: how it is written to, and a part of the message."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".hidden").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "to nothing").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("file", "not a folder"), ("pipe", "not a folder"), ("full", "not empty")):
        yield new_folder, tmp_path / name, message
    yield new_folder, os.devnull, "not a folder"
    for name in ("empty", "link", "to nothing", "pipe"):
        yield new_file, tmp_path / name, "the name of a file"
    yield new_file, os.devnull, "the name of a file"
    for kind in (new_folder, new_file):
        yield kind, tmp_path / "file" / "out", "file"
        yield kind, tmp_path / ("n" * 300), "too long"


def test_what_would_be_replaced_is_refused_before_the_work(tmp_path):
    for kind, path, message in places(tmp_path):
        before = everything(tmp_path)
        with pytest.raises(OSError, match=message), kind(path):
            pytest.fail(f"{path} was not refused")
        assert everything(tmp_path) == before


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="Windows has other rights; root has all")
def test_a_folder_without_the_right_to_write_is_refused_before_the_work(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    for kind in (new_folder, new_file):
        with pytest.raises(PermissionError), kind(tmp_path / "closed" / "out"):
            pytest.fail("not refused")
