//! Tokens as pictures and under a passphrase. What reads the pictures here is
//! not what made them.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use spa_keys::{SealedToken, Token, TokenError};

use crate::keys::{Keys, Run, chmod};

/// What a camera would read of a picture, of which this is each pixel's darkness.
fn scan(width: usize, height: usize, dark: impl Fn(usize, usize) -> bool) -> String {
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        if dark(x, y) { 0 } else { 255 }
    });
    let found = image.detect_grids();
    assert_eq!(found.len(), 1, "one code in {width} × {height}");
    found[0].decode().unwrap().1
}

/// A terminal with cells as tall as two modules, each module 4 pixels wide.
fn scan_terminal(shown: &str) -> String {
    let lines: Vec<Vec<char>> = shown
        .lines()
        .map(|line| {
            let line = line.strip_prefix("\x1b[38;5;16;48;5;231m").unwrap();
            line.strip_suffix("\x1b[0m").unwrap().chars().collect()
        })
        .collect();
    scan(lines[0].len() * 4, lines.len() * 8, |x, y| {
        let (cell, lower) = (lines[y / 8][x / 4], y / 4 % 2 == 1);
        match cell {
            '█' => true,
            '▀' => !lower,
            '▄' => lower,
            ' ' => false,
            other => panic!("{other:?}"),
        }
    })
}

fn scan_png(path: &Path) -> String {
    let mut decoder = png::Decoder::new(BufReader::new(File::open(path).unwrap()));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let width = info.width as usize;
    scan(width, info.height as usize, |x, y| pixels[y * width + x] < 128)
}

/// Of the path's rectangles, `M x y h w v h …`, as the renderer draws them.
fn scan_svg(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let drawn = text.split(" d=\"").last().unwrap().split('"').next().unwrap();
    let number = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().unwrap()
    };
    let rectangles: Vec<[usize; 4]> = drawn
        .split('M')
        .skip(1)
        .map(|part| {
            let (x, rest) = part.split_once(' ').unwrap();
            let (y, rest) = rest.split_once('h').unwrap();
            let (w, rest) = rest.split_once('v').unwrap();
            [number(x), number(y), number(w), number(rest)]
        })
        .collect();
    let side = rectangles.iter().map(|[x, _, w, _]| x + w).max().unwrap() + 4;
    scan(side, side, |x, y| {
        let inside = |[left, top, w, h]: &[usize; 4]| {
            (*left..left + w).contains(&x) && (*top..top + h).contains(&y)
        };
        rectangles.iter().any(inside)
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Files beside the keys.
fn beside(keys: &Keys, name: &str) -> PathBuf {
    keys.dir().with_file_name(name)
}

/// `text` in a file that only its owner may read.
fn passphrase_file(keys: &Keys, text: &str) -> String {
    let path = beside(keys, "passphrase");
    fs::write(&path, text).unwrap();
    chmod(&path, 0o600);
    path.to_str().unwrap().to_owned()
}

pub(super) fn is_of(keys: &Keys, name: &str, token: &Token) {
    let record = keys.record(name);
    assert!(token.kid == record.kid && token.psk.expose() == record.psk.expose());
}

fn open(line: &str, passphrase: &str) -> Result<Token, TokenError> {
    SealedToken::decode(line).and_then(|sealed| sealed.open(passphrase))
}

#[test]
fn a_terminal_shows_what_a_camera_can_read() {
    let keys = Keys::new();
    let run = keys.run(&["add", "alice", "--service", "ssh,web,backup", "--qr"]).done();
    is_of(&keys, "alice", &Token::decode(&scan_terminal(&run.stdout)).ok().unwrap());
    let columns = run.stdout.lines().next().unwrap().chars().count()
        - "\x1b[38;5;16;48;5;231m\x1b[0m".chars().count();
    assert!(run.stderr.contains(&format!("takes {columns} columns")), "{}", run.stderr);
    assert!(columns <= 80, "{columns}");
}

#[test]
fn files_hold_the_same_for_their_owner_alone() {
    let keys = Keys::new();
    let (png, svg) = (beside(&keys, "a.png"), beside(&keys, "a.svg"));
    let files = ["--png", png.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    let add = [&["add", "alice", "--service", "ssh"][..], &files].concat();
    let run = keys.run_in("umask 0; \"$@\"", &add).done();
    assert_eq!(run.stdout, "", "the line would stay on the screen");
    assert!(run.stderr.contains("delete it when"), "{}", run.stderr);
    assert_eq!((mode(&png), mode(&svg)), (0o600, 0o600));
    for line in [scan_png(&png), scan_svg(&svg)] {
        is_of(&keys, "alice", &Token::decode(&line).ok().unwrap());
    }

    let before = fs::read(&png).unwrap();
    for file in [&files[..2], &files[2..]] {
        let again = [&["add", "bob", "--service", "ssh"][..], file].concat();
        keys.run(&again).failed(1, "is there already");
        let renew = [&["renew", "alice"][..], file].concat();
        keys.run(&renew).failed(1, "is there already");
    }
    assert_eq!(fs::read(&png).unwrap(), before);
    assert_eq!(keys.names("clients"), ["alice.toml"], "refused before anything was made");
    is_of(&keys, "alice", &Token::decode(&scan_png(&png)).ok().unwrap());
}

#[test]
fn a_picture_that_cannot_be_written_says_how_to_get_another() {
    let keys = Keys::new();
    let run = keys.run(&["add", "alice", "--service", "ssh", "--png", "/nonexistent/a.png"]);
    run.failed(1, "the token is lost: run spa-keys renew alice");
    let services: Vec<_> = (0..255).map(|n| format!("service-{n:03}-long")).collect();
    let run = keys.run(&["add", "bob", "--service", &services.join(","), "--qr"]);
    run.failed(1, "does not go into a QR code");
}

#[test]
fn a_passphrase_comes_from_a_file() {
    let keys = Keys::new();
    let file = passphrase_file(&keys, "correct horse\nanother line\n");
    let add = ["add", "alice", "--service", "ssh", "--passphrase-file", &file];
    let run = keys.run(&add).done();
    assert_eq!(Token::decode(&run.stdout).err(), Some(TokenError::Sealed));
    is_of(&keys, "alice", &open(&run.stdout, "correct horse").ok().unwrap());
    assert_eq!(open(&run.stdout, "correct horse\n").err(), Some(TokenError::Passphrase));
    assert!(run.stderr.contains("the passphrase by another way"), "{}", run.stderr);
    assert!(!run.stderr.contains("horse"));

    let renewed = keys.run(&["renew", "alice", "--qr", "--passphrase-file", &file]).done();
    is_of(&keys, "alice", &open(&scan_terminal(&renewed.stdout), "correct horse").ok().unwrap());

    let script = "printf 'piped\\n' | \"$@\" --passphrase-file /dev/stdin";
    let run = keys.run_in(script, &["add", "bob", "--service", "ssh"]).done();
    is_of(&keys, "bob", &open(&run.stdout, "piped").ok().unwrap());
}

#[test]
fn a_passphrase_that_is_none_makes_no_client() {
    let keys = Keys::new();
    let add = |words: &[&str]| keys.run(&[&["add", "alice", "--service", "ssh"], words].concat());
    let file = passphrase_file(&keys, "\n");
    add(&["--passphrase-file", &file]).failed(1, "empty");
    add(&["--passphrase-file", "/nonexistent/p"]).failed(1, "/nonexistent/p");
    let loose = passphrase_file(&keys, "x");
    chmod(Path::new(&loose), 0o644);
    add(&["--passphrase-file", &loose]).failed(1, "chmod 600");
    add(&["--passphrase", "--passphrase-file", &loose]).failed(2, "cannot be used with");
    let run: Run = {
        // Of a session without a terminal.
        let mut command = std::process::Command::new("setsid");
        command.args(["-w", crate::keys::PROGRAM, "--dir"]).arg(keys.dir());
        command.args(["add", "alice", "--service", "ssh", "--passphrase"]);
        command.env_remove("SSH_ASKPASS").output().unwrap().into()
    };
    run.failed(1, "--passphrase-file");
    assert!(keys.names("clients").is_empty());
}

#[test]
fn a_passphrase_is_asked_for_twice() {
    let keys = Keys::new();
    let program = beside(&keys, "askpass");
    let ask = |script: &str| {
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        chmod(&program, 0o700);
        let mut command = keys.command(&["add", "alice", "--service", "ssh", "--passphrase"]);
        command.env("SSH_ASKPASS", &program).env("SSH_ASKPASS_REQUIRE", "force");
        Run::from(command.output().unwrap())
    };
    ask("case $1 in *again*) echo one;; *) echo two;; esac").failed(1, "two different");
    let run = ask("echo correct horse").done();
    is_of(&keys, "alice", &open(&run.stdout, "correct horse").ok().unwrap());
}
