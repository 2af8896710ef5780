use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

/// A directory that is ours alone, whatever the umask.
fn private_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    chmod(dir.path(), 0o700);
    dir
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn reading_fails(path: &Path) -> Problem {
    read_private(path).err().unwrap().problem
}

#[test]
fn any_right_of_others_is_refused() {
    let dir = private_dir();
    let path = dir.path().join("key");
    create_new(&path, "text").unwrap();
    for bit in [0o001, 0o002, 0o004, 0o010, 0o020, 0o040] {
        chmod(&path, 0o600 | bit);
        assert!(matches!(reading_fails(&path), Problem::LooseFile { .. }), "{bit:o}");
    }
    for own in [0o600, 0o400] {
        chmod(&path, own);
        assert_eq!(*read_private(&path).unwrap(), "text");
    }
    chmod(&path, 0o644);
    let said = read_private(&path).err().unwrap().to_string();
    let path = path.display();
    assert_eq!(said, format!("{path} is open to others (mode 0644); run: chmod 600 {path}"));
}

#[test]
fn files_of_others_are_refused() {
    let dir = private_dir();
    let path = dir.path().join("key");
    create_new(&path, "text").unwrap();
    if std::os::unix::fs::chown(&path, Some(12345), None).is_err() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    assert!(matches!(reading_fails(&path), Problem::Foreign { owner: 12345, .. }));
    let foreign = dir.path().join("dir");
    make_private_dir(&foreign).unwrap();
    std::os::unix::fs::chown(&foreign, Some(12345), None).unwrap();
    let error = make_private_dir(&foreign).err().unwrap();
    assert!(matches!(error.problem, Problem::Foreign { owner: 12345, .. }));
}

#[test]
fn what_is_no_text_file_is_refused() {
    let dir = private_dir();
    let path = dir.path().join("key");
    assert!(read_private(&path).err().unwrap().is_missing());
    assert!(matches!(reading_fails(dir.path()), Problem::NotRegular));

    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(reading_fails(&pipe), Problem::NotRegular), "and does not wait for a writer");

    create_new(&path, &"x".repeat(MAX_LEN)).unwrap();
    assert_eq!(read_private(&path).unwrap().len(), MAX_LEN);
    write_atomic(&path, &"x".repeat(MAX_LEN + 1)).unwrap();
    assert!(matches!(reading_fails(&path), Problem::TooLong { most: MAX_LEN }));
    fs::write(&path, b"\xff").unwrap();
    assert!(matches!(reading_fails(&path), Problem::NotText));
}

#[test]
fn a_link_is_judged_by_what_it_points_to() {
    let dir = private_dir();
    let (path, link) = (dir.path().join("key"), dir.path().join("link"));
    create_new(&path, "text").unwrap();
    symlink(&path, &link).unwrap();
    assert_eq!(*read_private(&link).unwrap(), "text");
    chmod(&path, 0o640);
    assert!(matches!(reading_fails(&link), Problem::LooseFile { .. }));
}

#[test]
fn new_files_never_replace() {
    let dir = private_dir();
    let path = dir.path().join("key");
    create_new(&path, "first").unwrap();
    assert!(create_new(&path, "second").err().unwrap().is_taken());
    assert_eq!(*read_private(&path).unwrap(), "first");
    assert_eq!(names(dir.path()), ["key"], "nothing else is left");

    let dangling = dir.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    assert!(create_new(&dangling, "text").err().unwrap().is_taken());
}

#[test]
fn replacing_gives_a_new_private_file() {
    let dir = private_dir();
    let path = dir.path().join("key");
    fs::write(&path, "old").unwrap();
    chmod(&path, 0o666);
    let before = fs::File::open(&path).unwrap();
    write_atomic(&path, "new").unwrap();
    assert_eq!(*read_private(&path).unwrap(), "new");
    assert_eq!(io::read_to_string(before).unwrap(), "old", "not written into");
    assert_eq!(names(dir.path()), ["key"]);
}

#[test]
fn failures_leave_nothing_behind() {
    let dir = private_dir();
    let target = dir.path().join("dir");
    fs::create_dir(&target).unwrap();
    assert!(write_atomic(&target, "text").is_err(), "a file does not replace a directory");
    assert_eq!(names(dir.path()), ["dir"]);
    assert!(write_atomic(&dir.path().join("absent/key"), "text").err().unwrap().is_missing());
}

#[test]
fn sweeping_takes_temporary_files_only() {
    let dir = private_dir();
    for name in [".a.toml.0123456789abcdef.tmp", "a.toml", ".hidden", "a.tmp"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    sweep(dir.path()).unwrap();
    let mut left = names(dir.path());
    left.sort();
    assert_eq!(left, [".hidden", "a.tmp", "a.toml"]);

    let temp = Temp::write(&dir.path().join("b"), b"text").unwrap();
    sweep(dir.path()).unwrap();
    assert!(temp.replace(&dir.path().join("b")).is_err(), "our own are recognised");
}

#[test]
fn the_temporary_files_of_one_target_are_known() {
    let dir = private_dir();
    let [a, b] = ["a.toml", "b.toml"].map(|name| dir.path().join(name));
    let others =
        [".a.toml.tmp", ".a.toml.b.toml.0123456789abcdef.tmp", ".a.toml.xyz.tmp", "a.toml"];
    for name in others {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let (one, two) = (Temp::write(&a, b"text").unwrap(), Temp::write(&a, b"text").unwrap());
    assert_eq!(unfinished(&a).unwrap().len(), 2);
    assert_eq!(unfinished(&b).unwrap(), [] as [PathBuf; 0]);
    drop((one, two));
    assert_eq!(unfinished(&a).unwrap(), [] as [PathBuf; 0]);
    assert_eq!(unfinished(&dir.path().join("absent/a.toml")).unwrap(), [] as [PathBuf; 0]);
}

#[test]
fn directories_are_made_private_with_their_parents() {
    let dir = private_dir();
    let deep = dir.path().join("a/b/c");
    make_private_dir(&deep).unwrap();
    for made in [&deep, &dir.path().join("a/b"), &dir.path().join("a")] {
        assert_eq!(mode(made), 0o700);
    }
    make_private_dir(&deep).unwrap();
    chmod(&deep, 0o755);
    make_private_dir(&deep).unwrap();
    for loose in [0o720, 0o702, 0o777, 0o1777] {
        chmod(&deep, loose);
        let error = make_private_dir(&deep).err().unwrap();
        assert!(matches!(error.problem, Problem::LooseDir { mode } if mode == loose), "{loose:o}");
    }
    fs::write(dir.path().join("file"), "").unwrap();
    let error = make_private_dir(&dir.path().join("file")).err().unwrap();
    assert!(matches!(error.problem, Problem::NotDir));
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    assert!(make_private_dir(&dir.path().join("dangling/x")).is_err());
}
